class NPConstants:
    NUMPY_KEY = "numpy_key"
