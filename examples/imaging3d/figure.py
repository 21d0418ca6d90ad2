"""A slice of a volume of each scanner, with the true mask and what models make of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from data import SIZE

Volumes = Mapping[str, torch.Tensor]
"""A volume of each scanner, shape (1, size, size, size)."""


def draw(images: Volumes, truth: Volumes, found: Mapping[str, Volumes], file: Path) -> Path:
    """Write the figure.

    Args:
        images: What the scanners show.
        truth: The masks.
        found: What models found, by the model's name.
        file: The PNG to write.
    """
    from matplotlib.figure import Figure

    names = ["volume", "truth", *found]
    figure = Figure(figsize=(2.1 * len(names), 2.2 * len(images) + 0.5), layout="constrained")
    axes = figure.subplots(len(images), len(names))
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name)
    for row, scanner in zip(axes, images, strict=True):
        shown = int(truth[scanner][0].sum(dim=(0, 1)).argmax())  # the slice with the most of the objects
        masks = [truth[scanner], *(of_model[scanner] for of_model in found.values())]
        row[0].imshow(images[scanner][0, :, :, shown], cmap="gray")
        row[0].set_ylabel(scanner)
        for axis, mask in zip(row[1:], masks, strict=True):
            axis.imshow(images[scanner][0, :, :, shown], cmap="gray")
            axis.contourf(mask[0, :, :, shown].numpy(), levels=[0.5, 1.5], colors=["#e4572e"], alpha=0.6)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.suptitle(f"SYNTHETIC volumes ({SIZE} voxels a side), no patients")
    figure.savefig(file, dpi=120)
    return file
