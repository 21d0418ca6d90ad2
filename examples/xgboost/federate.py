"""Four sites grow one model of trees, side by side or one after the other: `python federate.py [cyclic]`."""

import sys

from tumours import FEATURES, PARAMS, load

import hansa
import hansa.client.xgboost as fx
from hansa.jobs import xgboost_bagging, xgboost_cyclic

if __name__ == "__main__":
    in_turn = sys.argv[1:] == ["cyclic"]
    recipe, rounds = (xgboost_cyclic, 5) if in_turn else (xgboost_bagging, 20)
    job = recipe(fx.start(PARAMS, features=FEATURES), script="train.py", rounds=rounds)
    run = hansa.simulate(job, sites=4)
    booster = fx.booster_of(run.model)  # an xgboost.Booster like any other
    _, test = load()
    print(f"{booster.num_boosted_rounds()} iterations, {booster.eval(test)}")
    booster.save_model("model.json")
