"""The data (breast tumours, which come with scikit-learn) and what the trees shall be like."""

import xgboost
from sklearn.datasets import load_breast_cancer

PARAMS = {"objective": "binary:logistic", "eval_metric": "auc", "max_depth": 3, "eta": 0.3, "nthread": 1}
FEATURES = 30
TRAIN = 400


def load(site=None, num_sites=4):
    """The training data of one site (every fourth row from its number on), or of all; and the test data."""
    x, y = load_breast_cancer(return_X_y=True)
    number = 0 if site is None else int(site.rpartition("-")[2]) - 1
    train = slice(None, TRAIN) if site is None else slice(number, TRAIN, num_sites)
    return xgboost.DMatrix(x[train], y[train]), xgboost.DMatrix(x[TRAIN:], y[TRAIN:])
