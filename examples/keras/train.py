"""A site: it trains each model that comes for one epoch. On its own it trains its own model."""

from digits import load, new_model

import hansa.client as flare
import hansa.client.keras as fk

flare.init()
model = new_model()
x, y, test_x, test_y = load(flare.system_info()["site_name"])

while flare.is_running():
    fk.load(model, flare.receive().params)
    _, accuracy = model.evaluate(test_x, test_y, verbose=0)  # of the global model, before training
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    _, own = model.evaluate(test_x, test_y, verbose=0)
    print(f"accuracy {accuracy:.3f}, after training {own:.3f}")
    metrics = {"accuracy": accuracy, "own_accuracy": own}
    flare.send(flare.FLModel(params=fk.weights_of(model), num_steps=len(x), metrics=metrics))
