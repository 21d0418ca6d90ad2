"""Eight sites learn digits; one of them sends nonsense. The mean of all against the trimmed mean of the plug-in."""

import numpy as np

import hansa
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.demos.digits import NUM_HIDDEN, DigitsTrainer, load_digits
from hansa.demos.small_network import accuracy, initial_weights
from hansa.jobs import Component, fed_avg


class SometimesNonsense(DigitsTrainer):
    """As the trainer of the demo, but site-3 sends large random numbers."""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        result = super().execute(task_name, shareable, fl_ctx, abort_signal)
        if fl_ctx.get_identity_name() != "site-3":
            return result
        rng = np.random.default_rng(3)
        change = from_shareable(result).data
        noise = {name: rng.normal(0, 5, value.shape).astype(np.float32) for name, value in change.items()}
        return DXO(DataKind.WEIGHT_DIFF, noise, from_shareable(result).meta).to_shareable()


if __name__ == "__main__":
    images, labels = load_digits(0).test
    for title, options in (
        ("mean", {}),
        ("trimmed mean", {"aggregator": Component("hansa_robust.trimmed_mean.TrimmedMean", trim=0.25)}),
    ):
        model = initial_weights(images.shape[1], NUM_HIDDEN, 10, seed=0)
        job = fed_avg(model, executor=SometimesNonsense, rounds=10, params_type="diff", **options)
        run = hansa.simulate(job, sites=8)
        print(f"{title:14} accuracy {accuracy(dict(run.model), images, labels):.3f}")
