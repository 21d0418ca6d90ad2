"""Sites that disagree: f_i(x) = 1/2 (x - b_i)^T A_i (x - b_i) with unlike A_i, whose joint optimum is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    curvature: Matrix  # A_i, symmetric and positive definite
    optimum: Vector  # b_i

    def gradient(self, x: NDArray[Any]) -> NDArray[Any]:
        return self.curvature @ (x - self.optimum)


def unlike_sites(num_sites: int = 4, size: int = 3, seed: int = 0) -> list[Site]:
    """Eigenvalues between 0.5 and 4 in directions of each site's own."""
    rng = np.random.default_rng(seed)
    sites = []
    for _ in range(num_sites):
        axes, _ = np.linalg.qr(rng.normal(size=(size, size)))
        curvature = axes @ np.diag(rng.uniform(0.5, 4.0, size)) @ axes.T
        sites.append(Site((curvature + curvature.T) / 2, rng.normal(size=size) * 3))
    return sites


def joint_optimum(sites: list[Site]) -> Vector:
    """Where the mean of all gradients is zero: (sum A_i) x = sum A_i b_i."""
    curvature = np.sum([site.curvature for site in sites], axis=0)
    return np.linalg.solve(curvature, np.sum([site.curvature @ site.optimum for site in sites], axis=0))


def descend(x: Vector, gradient: Callable[[Vector], Vector], *, num_steps: int, rate: float) -> Vector:
    """Gradient descent from x."""
    for _ in range(num_steps):
        x = x - rate * gradient(x)
    return x


def fixed_point(sites: list[Site], *, num_steps: int, rate: float, mu: float = 0.0) -> Vector:
    """Where federated averaging (FedProx, if mu > 0) comes to rest, worked out by hand.

    From x site i goes K steps of gradient descent on its loss plus mu/2 |w - x|^2, whose curvature is H_i = A_i + mu I
    and whose optimum is x + H_i^-1 A_i (b_i - x). What is left of the distance after K steps is (I - rate H_i)^K, so it
    moves by (I - (I - rate H_i)^K) H_i^-1 A_i (b_i - x) =: M_i (b_i - x). At rest the mean move is zero:
    (sum M_i) x = sum M_i b_i.
    """
    size = len(sites[0].optimum)
    total, target = np.zeros((size, size)), np.zeros(size)
    for site in sites:
        curvature = site.curvature + mu * np.eye(size)
        left = np.linalg.matrix_power(np.eye(size) - rate * curvature, num_steps)
        move = (np.eye(size) - left) @ np.linalg.solve(curvature, site.curvature)
        total += move
        target += move @ site.optimum
    return np.linalg.solve(total, target)


def fed_avg(sites: list[Site], x: Vector, *, rounds: int, num_steps: int, rate: float) -> Vector:
    """Federated averaging, all sites alike."""
    for _ in range(rounds):
        x = np.mean([descend(x, site.gradient, num_steps=num_steps, rate=rate) for site in sites], axis=0)
    return x


def error(x: NDArray[Any], optimum: Vector) -> float:
    """The largest deviation of a coordinate."""
    return float(np.max(np.abs(x - optimum)))
