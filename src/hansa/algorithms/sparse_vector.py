"""The sparse vector technique on a model's update: a few numbers, chosen and sent with noise, the rest zero.

Lyu, Su and Li 2017, "Understanding the Sparse Vector Technique for Differential Privacy", arXiv:1603.01699:
algorithm 7, and the split of ε between threshold and queries in section 4.2. Used on a model by Li et al. 2019,
arXiv:1910.00962.

The question asked of each number, clipped to ±γ, is whether its size is over a threshold. With sensitivity Δ = 2γ and
at most c answers "yes": the threshold has noise Lap(Δ / ε₁), a question Lap(2cΔ / ε₂) with ε₂ = ε₁ (2c)^(2/3), and a
number that is sent Lap(Δ / ε₃). The questions are put in an order that does not depend on the data, and end with the
c-th "yes". One update costs ε₁ + ε₂ + c ε₃ (see `spent`), where neighbouring updates differ by at most Δ in each
number. That is so for real numbers; numbers of 64 bits have gaps, which an attacker may use (Mironov 2012, CCS).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Uniform = Callable[[int], Numbers]
"""So many independent numbers, evenly in the open interval (0, 1), shape (n,)."""

_MOST_PASSES = 100
"""Each question may be put so often; with a threshold far above all noise fewer numbers are sent than asked for."""


@dataclass(frozen=True)
class SparseVector:
    """What is chosen, and with how much noise.

    Attributes:
        fraction: The share of the numbers that is sent, in (0, 1].
        epsilon: ε₁, > 0.
        epsilon_value: ε₃, > 0.
        bound: γ, > 0.
        threshold: What a number's size is held against, >= 0.
    """

    fraction: float
    epsilon: float
    epsilon_value: float
    bound: float
    threshold: float

    def num_sent(self, num_values: int) -> int:
        """c: how many of so many numbers are sent."""
        return min(num_values, math.ceil(self.fraction * num_values))

    def spent(self, num_values: int) -> float:
        """The ε of one update of so many numbers, by basic composition; each further update costs as much again."""
        sent = self.num_sent(num_values)
        return self.epsilon + self._epsilon_questions(sent) + sent * self.epsilon_value

    def _epsilon_questions(self, sent: int) -> float:
        return float(self.epsilon * (2 * sent) ** (2 / 3))

    def choose(self, values: Numbers, uniform: Uniform) -> Numbers:
        """The update that is sent.

        Args:
            values: Of a whole model, one after the other, finite; shape (n,).
            uniform: Where all randomness comes from; as good as it is, so good is the promise.

        Returns:
            New values, shape (n,): c of them in [-γ, γ], the others 0.
        """
        sent = self.num_sent(values.size)
        chosen = np.zeros_like(values)
        if not sent:
            return chosen
        clipped = np.clip(values, -self.bound, self.bound)
        yes = self._over(np.abs(clipped), sent, uniform)
        noisy = clipped[yes] + laplace(uniform, yes.size, scale=2 * self.bound / self.epsilon_value)
        chosen[yes] = np.clip(noisy, -self.bound, self.bound)
        return chosen

    def _over(self, sizes: Numbers, sent: int, uniform: Uniform) -> NDArray[np.intp]:
        """The places of the first `sent` numbers that are found over the threshold."""
        sensitivity = 2 * self.bound
        threshold = self.threshold + laplace(uniform, 1, scale=sensitivity / self.epsilon)[0]
        scale = 2 * sent * sensitivity / self._epsilon_questions(sent)
        left = np.argsort(uniform(sizes.size), kind="stable")
        found: list[NDArray[np.intp]] = []
        missing = sent
        for _ in range(_MOST_PASSES):
            is_over = sizes[left] + laplace(uniform, left.size, scale=scale) >= threshold
            found.append(left[is_over][:missing])
            missing -= found[-1].size
            left = left[~is_over]
            if not missing or not left.size:
                break
        return np.sort(np.concatenate(found))


def laplace(uniform: Uniform, num: int, *, scale: float) -> Numbers:
    """So many numbers of the Laplace distribution around 0, by the inverse of its distribution function."""
    centred = uniform(num) - 0.5
    return np.asarray(-scale * np.sign(centred) * np.log1p(-2 * np.abs(centred)))
