"""FLARE's filter that sends a few numbers of an update, chosen and sent with noise."""

from __future__ import annotations

from functools import partial

from hansa.algorithms.sparse_vector import SparseVector
from hansa.apis.filter import Filter
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.filters.whole_update import Numbers, changed, uniform_of


class SVTPrivacy(Filter):
    """The sparse vector technique on a site's update (Lyu et al. 2017, arXiv:1603.01699).

    What it promises is written in `hansa.algorithms.sparse_vector`, with the ε that one update costs: for a model of
    many numbers that is far more than `epsilon`, and each round costs it again. The log says it. The update is divided
    by the number of its steps before, and multiplied after; the number of steps itself goes out as it is.

    Args:
        fraction: The share of the numbers that is sent, in (0, 1].
        epsilon: ε₁, of the threshold; that of the questions follows from it. > 0.
        noise_var: ε₃, of each number that is sent; FLARE calls it so, though larger means less noise. > 0.
        gamma: What is larger in size per step is clipped to this size; > 0.
        tau: The threshold that a number's size is held against; >= 0.
        seed: Makes the noise the same each time, for tests; then it protects nothing. None: secure randomness, also
            in a simulation, whose runs then differ.

    Raises:
        ValueError: A number is out of range.
    """

    writes_input = False
    stateless = True

    def __init__(
        self,
        fraction: float = 0.1,
        epsilon: float = 0.1,
        noise_var: float = 0.1,
        gamma: float = 1e-5,
        tau: float = 1e-6,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be above 0 and at most 1, but got {fraction!r}")
        for name, value in (("epsilon", epsilon), ("noise_var", noise_var), ("gamma", gamma)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0, but got {value!r}")
        if not tau >= 0:
            raise ValueError(f"tau must be at least 0, but got {tau!r}")
        self._vector = SparseVector(fraction, epsilon, noise_var, gamma, tau)
        self._uniform = uniform_of(seed)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The result with a few noisy numbers in the place of its update.

        Raises:
            ValueError: It has weights that are no update (WEIGHT_DIFF), or numbers that are not finite.
        """
        return changed(shareable, partial(self._change, fl_ctx), who=type(self).__name__)

    def _change(self, fl_ctx: FLContext, values: Numbers) -> Numbers:
        sent, spent = self._vector.num_sent(values.size), self._vector.spent(values.size)
        self.log_info(
            fl_ctx, f"sends {sent} of {values.size} numbers with noise; this update costs epsilon {spent:.4g}"
        )
        return self._vector.choose(values, self._uniform)
