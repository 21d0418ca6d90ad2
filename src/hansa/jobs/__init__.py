"""What is run: jobs, the folders they live in, and how their parts are built.

`Job` is the thing that the simulator, a proof of concept and a real federation run; the recipes (`fed_avg`, `fed_prox`,
`fed_opt`, `scaffold`, `fed_bn`, `ditto`, `cyclic`, `cross_site_eval`, `fed_statistics`, `xgboost_bagging`,
`xgboost_cyclic`, `naive_bayes`, `k_means`) make one in Python, `Job.load`
reads one from a folder. `Component` and `Variable` name a part and a value for a recipe.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hansa.jobs.component import Component, Variable
    from hansa.jobs.job import Job
    from hansa.jobs.library_recipes import k_means, naive_bayes, xgboost_bagging, xgboost_cyclic
    from hansa.jobs.recipes import cross_site_eval, cyclic, ditto, fed_avg, fed_bn, fed_opt, fed_prox, scaffold
    from hansa.jobs.statistics_recipe import fed_statistics

__all__ = [
    "Component",
    "Job",
    "Variable",
    "cross_site_eval",
    "cyclic",
    "ditto",
    "fed_avg",
    "fed_bn",
    "fed_opt",
    "fed_prox",
    "fed_statistics",
    "k_means",
    "naive_bayes",
    "scaffold",
    "xgboost_bagging",
    "xgboost_cyclic",
]

_RECIPES = "hansa.jobs.recipes"
_LIBRARIES = "hansa.jobs.library_recipes"
_HOMES = {
    "Component": "hansa.jobs.component",
    "Variable": "hansa.jobs.component",
    "Job": "hansa.jobs.job",
    "cross_site_eval": _RECIPES,
    "cyclic": _RECIPES,
    "ditto": _RECIPES,
    "fed_avg": _RECIPES,
    "fed_bn": _RECIPES,
    "fed_opt": _RECIPES,
    "fed_prox": _RECIPES,
    "fed_statistics": "hansa.jobs.statistics_recipe",
    "k_means": _LIBRARIES,
    "naive_bayes": _LIBRARIES,
    "scaffold": _RECIPES,
    "xgboost_bagging": _LIBRARIES,
    "xgboost_cyclic": _LIBRARIES,
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hansa.jobs' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
