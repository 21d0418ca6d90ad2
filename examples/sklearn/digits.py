"""The data: handwritten digits, which come with scikit-learn; every site has few of some digits and many of others."""

import numpy as np
from sklearn.datasets import load_digits

CLASSES, FEATURES, NUM_SITES = range(10), 64, 4


def load(site=None):
    """The training data of one site, or of all; and the test data. The first site has one digit only."""
    x, y = load_digits(return_X_y=True)
    x, train, test = x / 16, slice(None, 1400), slice(1400, None)
    own = np.ones(1400, bool)
    if site is not None:
        number = int(site.rpartition("-")[2]) - 1
        own = y[train] == 0 if number == 0 else (y[train] % (NUM_SITES - 1) == number - 1) & (y[train] != 0)
    return x[train][own], y[train][own], x[test], y[test]
