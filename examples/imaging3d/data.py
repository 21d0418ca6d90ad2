"""SYNTHETIC volumes, made by MONAI: spheres in a dark box, as four scanners with different habits would show them.

No patient, no organ and no real scanner stands behind them. Everything is made from a seed; no file is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.data import create_test_image_3d
from monai.transforms import Compose, EnsureChannelFirst, NormalizeIntensity, RandFlip, RandGaussianNoise, Zoom

SIZE = 32
"""Voxels along each side of what the network sees."""


@dataclass(frozen=True)
class Scanner:
    """How a scanner shows the same kind of object.

    Attributes:
        noise: Standard deviation of the noise, where an object's intensity is up to 1.
        gamma: Intensities are raised to this power: contrast.
        inverted: Whether objects are darker than what is around them.
        spacing: Voxels along z are so many times as thick as along x and y.
        shading: Intensities fall off along x by this share.
    """

    noise: float
    gamma: float
    inverted: bool
    spacing: float
    shading: float


SCANNERS = {
    "scanner-1": Scanner(noise=0.05, gamma=1.0, inverted=False, spacing=1.0, shading=0.0),
    "scanner-2": Scanner(noise=0.25, gamma=1.0, inverted=False, spacing=1.0, shading=0.3),
    "scanner-3": Scanner(noise=0.10, gamma=2.5, inverted=False, spacing=2.0, shading=0.0),
    "scanner-4": Scanner(noise=0.15, gamma=0.6, inverted=True, spacing=1.5, shading=0.5),
}

Volumes = tuple[torch.Tensor, torch.Tensor]
"""Intensities, float32, shape (n, 1, 32, 32, 32), each volume of mean 0 and deviation 1; and masks of 0 and 1."""

prepared = Compose([EnsureChannelFirst(channel_dim="no_channel"), NormalizeIntensity()])
"""What every site does with a volume."""


def augmented() -> Compose:
    """What training adds; draws from a generator of its own, see `Compose.set_random_state`."""
    return Compose(
        [RandFlip(prob=0.5, spatial_axis=0), RandFlip(prob=0.5, spatial_axis=1), RandGaussianNoise(prob=0.5)]
    )


def volumes(scanner: str, number: int, seed: int) -> Volumes:
    """Volumes of one scanner, and which of their voxels belong to an object.

    Args:
        scanner: One of `SCANNERS`.
        number: How many.
        seed: Of the objects and the noise: `training_seed` or `test_seed`.
    """
    rng = np.random.RandomState([seed, list(SCANNERS).index(scanner)])
    pairs = [_volume(SCANNERS[scanner], rng) for _ in range(number)]
    images, masks = (torch.stack([pair[part] for pair in pairs]) for part in (0, 1))
    return images, masks


def training_seed(seed: int) -> int:
    """Of the training volumes of a comparison."""
    return 2 * seed


def test_seed(seed: int) -> int:
    """Of its test volumes, which nobody trains on."""
    return 2 * seed + 1


def _volume(scanner: Scanner, rng: np.random.RandomState) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = create_test_image_3d(
        SIZE, SIZE, SIZE, num_objs=6, rad_min=3, rad_max=7, num_seg_classes=1, random_state=rng
    )
    seen = np.clip(image, 0, 1) ** scanner.gamma
    seen = 1 - seen if scanner.inverted else seen
    seen = seen * (1 - scanner.shading * np.linspace(0, 1, SIZE)[:, None, None])
    seen = seen + rng.normal(0, scanner.noise, seen.shape)
    if scanner.spacing != 1:  # thick slices: what lies between them is lost
        thick = Zoom((1, 1, 1 / scanner.spacing), keep_size=False)(torch.from_numpy(seen)[None])
        seen = torch.nn.functional.interpolate(thick[None].float(), size=(SIZE,) * 3, mode="trilinear")[0, 0].numpy()
    return prepared(torch.from_numpy(seen.astype(np.float32))).as_tensor(), torch.from_numpy(mask).float()[None]
