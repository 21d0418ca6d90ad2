"""What most users of a recipe leave as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from hansa.apis.sampling import Sampling
from hansa.errors import ConfigError
from hansa.jobs.component import Component
from hansa.jobs.place import suggestion

NAMES = ("any", "subset", "exact")
ORDERS = ("random", "fixed")
NOT_IN_TURN = {
    "best_by": "has no best model: no two sites measure the same one",
    "lower_is_better": "has no best model: no two sites measure the same one",
    "round_s": "has no end of a round but its last site's; site_s is the time of one site",
    "aggregator": "takes no mean: each site trains on what the one before has made",
    "rule": "takes no mean: each site trains on what the one before has made",
}
"""Options that `cyclic` cannot have, and why."""
OPTIMIZERS = ("sgd", "adam", "yogi", "adagrad")
RULES = ("median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "centred_clipping")
"""Those of `RobustAggregator`."""
KINDS = {"full": "WEIGHTS", "diff": "WEIGHT_DIFF"}


class FedAvgOptions(TypedDict, total=False):
    """The options of every recipe."""

    name: str
    """What the job is called; the recipe's own name."""
    wait_s: int
    """How many seconds a round waits for the other sites once `min_sites` have answered; 10."""
    round_s: int
    """After how many seconds a round is over with whoever has answered: `min_sites` at least, else the run ends. 0:
    never, and so it is unless given. With it, `wait_s` is as long unless given."""
    threads_per_site: int
    """How many threads numeric libraries may use for one site; 1."""
    params_type: Literal["full", "diff"]
    """What a site sends back: whole parameters (`full`) or what training added to them (`diff`); `full`."""
    script_args: str | Sequence[str | int | float | Path]
    """The command line of `script`: a text, or a list of arguments."""
    settings: Mapping[str, Any]  # Any: plain JSON
    """Numbers and texts that the sites get with each task, by name (`FLModel.meta` in a script, headers elsewhere); in
    place of a number a schedule by round: `{"learning_rate": {"schedule": "cosine", "initial": 0.1, ...}}`."""
    early_stopping: Mapping[str, Any]  # Any: as above
    """When to stop before the last round: the arguments of
    `hansa.components.handlers.early_stopping.EarlyStopping`, such as `{"metric": "accuracy", "patience": 5}`."""
    best_by: str
    """The metric that says which global model was the best: what the sites measure before they train, under this key
    of their DXO's meta; `initial_metrics`."""
    lower_is_better: bool
    """Whether the best model has the lowest value of `best_by`, as with a loss."""
    server_components: Sequence[Component]
    """More parts on the server, which hear its events; without an id they go by the name of their class."""
    client_components: Sequence[Component]
    """More parts at each site."""
    sampling: Mapping[str, Any]  # Any: as above
    """Which of the live sites a round asks: `{"fraction": 0.1}` or `{"count": 100}` of all, of `{"names": [...]}` or of
    `{"tag": "icu"}`; with spare sites for those that are slow (`{"count": 8, "spare": 2}`), by data size or in turn
    (`{"count": 8, "by": "size"}`); see `hansa.apis.sampling.Sampling`. All of them unless given."""
    rule: str | Mapping[str, Any]  # Any: plain JSON
    """A rule that a few bad sites cannot lead astray, in place of the mean: `median`, `trimmed_mean`, `krum`,
    `multi_krum`, `geometric_median`, `centred_clipping`; or one with its arguments, `{"rule": "krum", "num_bad": 2,
    "mixing": "nnm"}`; see `hansa.components.aggregators.robust_aggregator.RobustAggregator`."""
    aggregator: Component | type
    """What makes the round's update of the results, in place of their mean: an `Aggregator` of yours or of a plug-in.
    It must take what the recipe's sites send, and make what its model is updated with."""
    result_filters: Sequence[Component]
    """What a site's result goes through before it leaves the site, in this order."""
    names: Literal["any", "subset", "exact"]
    """Which tensors a result may have, else it is refused: those of the model and no others (`exact`), some of them
    (`subset`), or whatever a site sends (`any`), where each tensor is averaged over the sites that sent it. `exact`, or
    `subset` if there are `result_filters`, which may leave tensors out."""

    evaluate_across_sites: bool | Literal["global"]
    """Whether, after the training, all sites measure the global models and each site's own best one on their own data
    (True), or only the global ones (`global`). What a site does with the tasks `submit_model` and `validate` is its
    trainer's affair. Not unless given."""


class Options(FedAvgOptions, total=False):
    """The same for the recipes that say less of it in their own arguments."""

    min_sites: int | None
    """How many sites are enough for a round; all of the run, or all that the round asks if it asks only some."""


class FedProxOptions(Options, total=False):
    """The options of `fed_prox`."""

    mu: float
    """The weight of the proximal term, >= 0; 0.01."""


class FedOptOptions(Options, total=False):
    """The options of `fed_opt`."""

    optimizer: Literal["sgd", "adam", "yogi", "adagrad"]
    """The server's optimizer; `adam`."""
    server_learning_rate: float | Mapping[str, Any]  # Any: as above
    """Its step size, > 0, or a schedule by round; 1.0 for `sgd`, else 0.01."""
    optimizer_args: Mapping[str, Any]  # Any: as above
    """Its other arguments, such as `{"momentum": 0.9}`; see
    `hansa.components.shareablegenerators.fed_opt.FedOptShareableGenerator`."""
    buffers: str | Sequence[str]
    """Tensors that are averaged and not optimised: names, or a regular expression. A torch module's own buffers."""


class FedBNOptions(Options, total=False):
    """The options of `fed_bn`."""

    local: str | Sequence[str]
    """The tensors that stay at their site: names, or a regular expression. A torch module's batch normalisation."""


class DittoOptions(Options, total=False):
    """The options of `ditto`."""

    ditto_lambda: float
    """How strongly a site's own model is drawn to the global one, >= 0; 0.1."""


class CyclicOptions(Options, total=False):
    """The options of `cyclic`: all but `best_by`, `lower_is_better`, `round_s`, `aggregator` and `rule`."""

    order: Literal["random", "fixed"]
    """The order of the sites in a round: drawn anew from the job's seed (`random`), or by name (`fixed`); `random`."""
    site_s: int
    """How many seconds a site may train before it is passed over; as long as it likes unless given."""


class EvaluationOptions(TypedDict, total=False):
    """The options of `cross_site_eval`; those that other recipes have, too, mean the same."""

    name: str
    """What the job is called."""
    min_sites: int | None
    """How many sites must be there; all of the run."""
    threads_per_site: int
    """How many threads numeric libraries may use for one site; 1."""
    script_args: str | Sequence[str | int | float | Path]
    """The command line of `script`."""
    result_filters: Sequence[Component]
    """What a site's own model goes through before it leaves the site."""
    server_components: Sequence[Component]
    """More parts on the server."""
    client_components: Sequence[Component]
    """More parts at each site."""
    site_models: bool
    """Whether sites are asked for their own best models (the task `submit_model`), too; True."""
    submit_s: int
    """How many seconds they have to send them; 600."""
    validate_s: int
    """How many seconds sites have to measure one model; 6000."""


def check_options(recipe: str, options: Mapping[str, Any], known: type) -> None:
    """Refuse what no recipe can use.

    Args:
        recipe: Its name, for errors.
        options: What the user gave.
        known: The TypedDict of the recipe's options.

    Raises:
        ConfigError: An option that there is not, or a value that it cannot have.
    """
    names = known.__annotations__  # a TypedDict's hold those of the ones that it extends
    for key in options:
        if key not in names:
            raise ConfigError(f"{recipe} takes no such argument{suggestion(key, names)}", key=key)
    for key, least in (("wait_s", 0), ("round_s", 0), ("threads_per_site", 1)):
        check_whole(key, options.get(key, 1), least=least)
    if options.get("min_sites") is not None:
        check_whole("min_sites", options["min_sites"], least=1)
    for key in ("mu", "ditto_lambda"):
        check_number(key, options.get(key, 0))
    for key in ("site_s", "submit_s", "validate_s"):
        check_whole(key, options.get(key, 1), least=1)
    chosen = options.get("evaluate_across_sites", False)
    if not isinstance(chosen, bool) and chosen != "global":
        raise ConfigError(f"must be True, False or 'global', not {chosen!r}", key="evaluate_across_sites")
    for key, choices in (
        ("params_type", KINDS),
        ("names", NAMES),
        ("optimizer", OPTIMIZERS),
        ("order", ORDERS),
    ):
        if key in options and options[key] not in tuple(choices):
            *some, last = map(repr, choices)
            raise ConfigError(f"must be {', '.join(some)} or {last}, not {options[key]!r}", key=key)
    _check_rule(options)
    for key in ("settings", "early_stopping", "optimizer_args"):
        if not isinstance(options.get(key, {}), Mapping):
            raise ConfigError(f"must be a dict, not {options[key]!r}", key=key)
    Sampling.from_config(options.get("sampling"), key="sampling")
    for key in ("name", "best_by"):
        value = options.get(key, "x")
        if not isinstance(value, str) or not value:
            raise ConfigError(f"must be a text that is not empty, not {value!r}", key=key)
    for key in ("lower_is_better", "site_models"):
        if not isinstance(options.get(key, False), bool):
            raise ConfigError(f"must be True or False, not {options[key]!r}", key=key)


def _check_rule(options: Mapping[str, Any]) -> None:
    given = options.get("rule", RULES[0])
    if "rule" in options and "aggregator" in options:
        raise ConfigError("give a rule or an aggregator, not both", key="rule")
    if isinstance(given, Mapping) and "rule" not in given:
        raise ConfigError('must name the rule, as in {"rule": "krum", "num_bad": 2}', key="rule")
    chosen = given["rule"] if isinstance(given, Mapping) else given
    if chosen not in RULES:
        raise ConfigError(f"must be one of {', '.join(RULES)}, not {chosen!r}", key="rule")


def check_whole(argument: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"must be a whole number of at least {least}, not {value!r}", key=argument)


def check_number(argument: str, value: object) -> None:
    """Refuse what is no number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigError(f"must be a number of at least 0, not {value!r}", key=argument)
