"""A site: it adds a tree to each model that comes. On its own it grows one tree."""

from tumours import PARAMS, load

import hansa.client as flare
import hansa.client.xgboost as fx

flare.init()
data, test = load(flare.system_info()["site_name"])

while flare.is_running():
    answer = fx.grow(PARAMS, data, flare.receive(), trees=1, evals=[(test, "test")])
    print(answer.metrics)
    flare.send(answer)
