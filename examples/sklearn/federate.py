"""Four sites learn together: `python federate.py linear`, or `bayes`, or `clusters`."""

import sys

import bayes
import linear
from digits import FEATURES, NUM_SITES, load
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin

import hansa
import hansa.client.sklearn as fs
from hansa.jobs import fed_avg, k_means, naive_bayes

JOBS = {
    "linear": lambda: fed_avg(linear.new_model(), script="linear.py", rounds=20, best_by="accuracy"),
    "bayes": lambda: naive_bayes(bayes.new_model(), script="bayes.py"),
    "clusters": lambda: k_means(fs.no_centers(10, features=FEATURES), script="clusters.py", rounds=10),
}

if __name__ == "__main__":
    what = "linear" if len(sys.argv) < 2 else sys.argv[1]
    run = hansa.simulate(JOBS[what](), sites=NUM_SITES)
    _, _, test_x, test_y = load()
    if what == "clusters":
        nearest = pairwise_distances_argmin(test_x, run.model["centers"])
        print(f"clusters against digits: adjusted Rand index {adjusted_rand_score(test_y, nearest):.3f}")
    else:
        model = linear.new_model() if what == "linear" else bayes.new_model()
        fs.load(model, run.model)
        print(f"accuracy of the global model {model.score(test_x, test_y):.3f}")
