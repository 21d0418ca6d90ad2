"""FedBN: batch normalisation stays at its site, so that each site normalises its own kind of data.

Li et al., "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", ICLR 2021, arXiv:2102.07623.
All tensors of these layers are local: scale and shift (gamma, beta) as well as the running statistics. With L the local
names and y_i what site i has trained::

    x[n] <- mean_i y_i[n]      for n not in L: federated averaging
    x_i[n] <- y_i[n]           for n in L: each site goes on with its own

A new site without a history begins with the initial model's. To keep only the statistics at home (SiloBN, Andreux et
al. 2020, arXiv:2008.07424), give their names: `running_(mean|var)|num_batches_tracked` in torch.
"""

from __future__ import annotations

from collections.abc import Iterable

from hansa.algorithms.arrays import Array
from hansa.algorithms.named_tensors import Selection, Tensors, selected

STATISTICS = frozenset(("running_mean", "running_var", "num_batches_tracked", "moving_mean", "moving_variance"))
"""What torch and Keras call the statistics that a layer keeps; only layers that normalise over batches have them."""

_SEPARATORS = "./"


def batch_norm_names(names: Iterable[str]) -> list[str]:
    """The tensors of batch normalisation among these, whatever the layers are called.

    A layer is known by its statistics (`STATISTICS`): every tensor with the same prefix belongs to it. So
    `features.1.weight` is found if there is a `features.1.running_mean`, and Keras' `bn/gamma:0` beside
    `bn/moving_mean:0`. A layer without statistics (torch: `track_running_stats=False`) cannot be told from others and
    must be given by name.

    Args:
        names: Of all tensors of the model, such as the keys of a state dict.

    Returns:
        Those of batch normalisation, in their order; empty if there are none.

    Example:
        >>> batch_norm_names(["0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"])
        ['1.weight', '1.bias', '1.running_mean', '1.running_var']
    """
    split = {name: _split(name) for name in names}
    layers = {layer for layer, last in split.values() if last in STATISTICS}
    return [name for name, (layer, _) in split.items() if layer in layers]


def local_names(names: Iterable[str], selection: Selection | None = None) -> list[str]:
    """The tensors that stay local.

    Args:
        names: Of all tensors of the model.
        selection: A regular expression that is searched for in each name, or a list of exact names; None for batch
            normalisation, see `batch_norm_names`.
    """
    return batch_norm_names(names) if selection is None else selected(names, selection)


def merged(received: Tensors, own: Tensors) -> dict[str, Array]:
    """A site's model: what it received, with its own tensors in their places; its own where nothing was received."""
    return {**received, **own}


def _split(name: str) -> tuple[str, str]:
    """The layer and the last part of a tensor's name, without Keras' number of the output."""
    stem = name.partition(":")[0]
    cut = max(stem.rfind(separator) for separator in _SEPARATORS)
    return stem[: cut + 1], stem[cut + 1 :]
