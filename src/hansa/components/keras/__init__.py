"""Parts for Keras; importing one needs no Keras, building it does.

- `keras_model_persistor`: begins with a model's weights and saves it in Keras' own format
"""
