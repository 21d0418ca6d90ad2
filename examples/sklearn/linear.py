"""A site with a linear model. On its own it makes one pass over its rows."""

from digits import CLASSES, FEATURES, load
from sklearn.linear_model import SGDClassifier

import hansa.client as flare
import hansa.client.sklearn as fs


def new_model():
    return fs.prepare(SGDClassifier(loss="log_loss", random_state=0), classes=CLASSES, features=FEATURES)


if __name__ == "__main__":
    flare.init()
    x, y, test_x, test_y = load(flare.system_info()["site_name"])
    model = new_model()

    while flare.is_running():
        fs.load(model, flare.receive().params)
        accuracy = model.score(test_x, test_y)  # of the global model, before training
        model.partial_fit(x, y)
        metrics = {"accuracy": accuracy, "own_accuracy": model.score(test_x, test_y)}
        print(metrics)
        flare.send(flare.FLModel(params=fs.weights_of(model), num_steps=len(x), metrics=metrics))
