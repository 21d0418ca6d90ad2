"""Every model on every site's data: the results of an evaluation across sites as a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hansa.errors import ConfigError
from hansa.runtime.history import Evaluation

SERVER_MODEL = "SRV_"


@dataclass(frozen=True)
class CrossSite:
    """One metric of models (rows) on the data of sites (columns).

    Attributes:
        metric: Its name.
        models: The server's first, then the sites', by code point; also sites that had none to give.
        sites: Whose data, by code point.
        values: By model and site; what could not be measured is left out.
        errors: Why, by model and site; under the site "": why a site has no model.
    """

    metric: str
    models: tuple[str, ...]
    sites: tuple[str, ...]
    values: dict[tuple[str, str], float]
    errors: dict[tuple[str, str], str]

    def mean(self, model: str) -> float | None:
        """A model's mean over the sites that have measured it as a finite number, each counting the same; or None."""
        found = [self.values[model, site] for site in self.sites if (model, site) in self.values]
        found = [value for value in found if math.isfinite(value)]
        return sum(found) / len(found) if found else None

    def as_dict(self) -> dict[str, dict[str, float | None]]:
        """Model to site to value; None for what could not be measured."""
        return {model: {site: self.values.get((model, site)) for site in self.sites} for model in self.models}


def metrics_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """Everything that was measured, sorted."""
    return sorted({name for each in evaluations for name in each.metrics})


def cross_site(evaluations: Sequence[Evaluation], metric: str | None = None) -> CrossSite:
    """The matrix of one metric.

    Args:
        evaluations: In the order in which they came; of two for one cell the later one stands.
        metric: Which; None: the first by name, an accuracy if there is one.

    Raises:
        ConfigError: Nothing was measured across sites, or not this.
    """
    if not evaluations:
        raise ConfigError("no model was measured across sites in this run", key="run")
    names = metrics_of(evaluations)
    if metric is not None and metric not in names:
        known = f"there are {', '.join(names)}" if names else "nothing could be measured"
        raise ConfigError(f"no such metric was measured across sites; {known}", key="metric")
    chosen = metric or _main_of(names)
    values: dict[tuple[str, str], float] = {}
    errors: dict[tuple[str, str], str] = {}
    for each in evaluations:
        cell = each.model, each.site
        values.pop(cell, None)
        errors.pop(cell, None)
        if each.error is not None:
            errors[cell] = each.error
        elif chosen in each.metrics:
            values[cell] = each.metrics[chosen]
        else:
            errors[cell] = f"no {chosen or 'metric'} in its result"
    models = sorted({each.model for each in evaluations}, key=lambda name: (not name.startswith(SERVER_MODEL), name))
    sites = sorted({each.site for each in evaluations} - {""})
    return CrossSite(chosen, tuple(models), tuple(sites), values, errors)


def _main_of(names: Sequence[str]) -> str:
    """What to show where nobody says: an accuracy, else the first that is not what a Learner repeats."""
    accuracies = [name for name in names if "acc" in name.lower()]
    others = [name for name in names if name != "initial_metrics"]
    return next(iter([*accuracies, *others, *names]), "")


def model_label(model: str) -> str:
    """How a model is called for people: `SRV_` and the endings of files go."""
    if not model.startswith(SERVER_MODEL):
        return model
    name = model.removeprefix(SERVER_MODEL).removesuffix(".safetensors").removesuffix(".pt")
    return f"{name.replace('_', ' ')} (server)"
