"""A site with naive Bayes: it sends counts, means and variances by class, once."""

from digits import CLASSES, FEATURES, load
from sklearn.naive_bayes import GaussianNB

import hansa.client as flare
import hansa.client.sklearn as fs


def new_model():
    return fs.prepare(GaussianNB(var_smoothing=1e-2), classes=CLASSES, features=FEATURES)


if __name__ == "__main__":
    flare.init()
    x, y, _, _ = load(flare.system_info()["site_name"])

    while flare.is_running():
        flare.receive()
        statistics = fs.statistics_of(new_model(), x, y)
        print("rows by class", statistics["class_count_"])
        flare.send(flare.FLModel(params=statistics))
