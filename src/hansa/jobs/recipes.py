"""Jobs in Python: one function per way of learning."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Unpack

from numpy.typing import ArrayLike

from hansa.apis.executor import Executor
from hansa.apis.learner_spec import Learner
from hansa.errors import ConfigError
from hansa.jobs.component import Component
from hansa.jobs.initial_weights import InitialWeights
from hansa.jobs.job import Job
from hansa.jobs.recipe_options import (
    NOT_IN_TURN,
    CyclicOptions,
    DittoOptions,
    EvaluationOptions,
    FedAvgOptions,
    FedBNOptions,
    FedOptOptions,
    FedProxOptions,
    Options,
    check_options,
)
from hansa.jobs.recipe_parts import Trainer, Way, job_of, make_evaluation

Model = Mapping[str, ArrayLike] | Any  # Any: a torch module, where torch is installed
"""Initial weights: numbers of any shape by name, or a torch module, whose own they are."""
Part = type[Executor] | type[Learner] | Component | None
"""What a site does with the task `train`."""
Script = str | os.PathLike[str] | None
"""The path of a training script."""

_PARTS = "hansa.components"
_FILTERS = f"{_PARTS}.filters.local_tensors"
_GENERATORS = f"{_PARTS}.shareablegenerators"


def fed_avg(
    model: Model,
    *,
    executor: Part = None,
    script: Script = None,
    rounds: int = 5,
    min_sites: int | None = None,
    **options: Unpack[FedAvgOptions],
) -> Job:
    """Federated averaging: every site trains the global model on its own data, the server averages what comes back.

    The new model is the mean of the sites' results, weighted with the number of steps each reports
    (NUM_STEPS_CURRENT_ROUND): McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", 2017, arXiv:1602.05629.

    Args:
        model: The initial weights by name: numbers of any shape; or a torch module, whose weights and buffers they
            are. They are copied, keep their dtype (bfloat16 and half, too), and travel in the job.
        executor: What a site does with the task `train`: an Executor class, a Learner class, or a Component with its
            arguments.
        script: Instead of an executor: the path of a training script that speaks `hansa.client`. It travels with the
            modules beside it that it imports.
        rounds: How many times the sites train; at least 1.
        min_sites: How many sites are enough for a round; None for all sites of the run, or all that the round asks if
            it asks only some (`sampling`).
        options: See `FedAvgOptions`.

    Returns:
        A job for `hansa.simulate`, or for `Job.save`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    check_options("fed_avg", options, FedAvgOptions)
    given: dict[str, Any] = {**options, "min_sites": min_sites}
    return job_of(model, Trainer(executor, script), rounds, options=given, way=Way())


def fed_prox(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 5, **options: Unpack[FedProxOptions]
) -> Job:
    """Federated averaging whose sites stay near the global model: a proximal term mu/2 · ‖w − w_global‖² in their loss.

    The term is the site's own work (`hansa.algorithms.fed_prox`, or `PTFedProxLoss` in torch): `mu` reaches it as the
    task's header `fed_prox_mu`, in a script as `FLModel.meta["fed_prox_mu"]`. Li et al., "Federated Optimization in
    Heterogeneous Networks", 2020, arXiv:1812.06127.

    Args:
        model: As in `fed_avg`.
        executor: Likewise.
        script: Likewise.
        rounds: Likewise.
        options: See `FedProxOptions`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    check_options("fed_prox", options, FedProxOptions)
    way = Way(recipe="fed_prox", settings={"fed_prox_mu": options.get("mu", 0.01)})
    return job_of(model, Trainer(executor, script), rounds, options=options, way=way)


def fed_opt(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 5, **options: Unpack[FedOptOptions]
) -> Job:
    """Federated averaging with an optimizer on the server: the mean of the sites' updates is its gradient, negated.

    Reddi et al., "Adaptive Federated Optimization", 2021, arXiv:2003.00295.

    Args:
        model: As in `fed_avg`. The buffers of a torch module (statistics of batch normalisation) are averaged and not
            optimised, like all integers.
        executor: Likewise.
        script: Likewise.
        rounds: Likewise.
        options: See `FedOptOptions`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    check_options("fed_opt", options, FedOptOptions)
    optimizer = options.get("optimizer", "adam")
    rate = options.get("server_learning_rate", 1.0 if optimizer == "sgd" else 0.01)
    args: dict[str, Any] = {"optimizer": optimizer, **options.get("optimizer_args", {})}
    args.update({"schedule": rate} if isinstance(rate, Mapping) else {"learning_rate": rate})
    weights = InitialWeights.of(model)
    buffers = options.get("buffers", weights.buffers)
    if buffers:
        args["buffers"] = buffers
    generator = Component(f"{_GENERATORS}.fed_opt.FedOptShareableGenerator", **args)
    way = Way(recipe="fed_opt", generator=generator)
    return job_of(weights, Trainer(executor, script), rounds, options=options, way=way)


def scaffold(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 5, **options: Unpack[Options]
) -> Job:
    """Federated averaging with control variates, which take out the drift of unlike sites.

    A site gets a COLLECTION of the model and the global control variates and answers with one of its weight difference
    and the change of its own controls (`hansa.algorithms.scaffold`, or `PTScaffoldHelper` in torch). Karimireddy et
    al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", 2020, arXiv:1910.06378.

    Args:
        model: As in `fed_avg`.
        executor: Likewise.
        script: Likewise.
        rounds: Likewise.
        options: See `Options`; `params_type` is `diff`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    check_options("scaffold", options, Options)
    if options.get("params_type", "diff") != "diff":
        raise ConfigError("SCAFFOLD's sites send what training added to the weights: 'diff'", key="params_type")
    way = Way(
        recipe="scaffold",
        workflow=f"{_PARTS}.workflows.scatter_and_gather_scaffold.ScatterAndGatherScaffold",
        data_kind={"_model_weights_": "WEIGHT_DIFF", "scaffold_c_diff": "WEIGHT_DIFF"},
    )
    given: dict[str, Any] = {**options, "params_type": "diff"}
    return job_of(model, Trainer(executor, script), rounds, options=given, way=way)


def fed_bn(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 5, **options: Unpack[FedBNOptions]
) -> Job:
    """Federated averaging that leaves batch normalisation at the sites: its tensors never travel.

    Each site keeps its own, from the first round on; the trainer gets a whole model as ever. Li et al., "FedBN:
    Federated Learning on Non-IID Features via Local Batch Normalization", 2021, arXiv:2102.07623.

    Args:
        model: As in `fed_avg`; a torch module says itself which tensors belong to batch normalisation.
        executor: Likewise.
        script: Likewise.
        rounds: Likewise.
        options: See `FedBNOptions`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    check_options("fed_bn", options, FedBNOptions)
    weights = InitialWeights.of(model)
    local = options.get("local", weights.batch_norm)
    if not local:
        found = "the module has no batch normalisation" if weights.batch_norm is not None else "arrays do not tell"
        raise ConfigError(f"say which tensors stay at their site: {found}", key="local")
    way = Way(
        recipe="fed_bn",
        # The first round's results lack the local tensors; the model keeps its own for sites that come later.
        generator=Component(
            f"{_PARTS}.shareablegenerators.full_model_shareable_generator.FullModelShareableGenerator",
            keep_missing=True,
        ),
        client_components=(Component(f"{_FILTERS}.LocalTensors", id="local_tensors", names=local),),
        data_filters=(Component(f"{_FILTERS}.PutBackLocal"),),
        result_filters=(Component(f"{_FILTERS}.KeepLocal"),),
        leaves_out=True,
    )
    return job_of(weights, Trainer(executor, script), rounds, options=options, way=way)


def ditto(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 5, **options: Unpack[DittoOptions]
) -> Job:
    """Federated averaging beside which every site trains a model of its own, drawn to the global one.

    The personal model is the site's own work and never travels (`hansa.algorithms.ditto`, or `PTDittoHelper` in
    torch): `ditto_lambda` reaches it as the task's header of that name, in a script in `FLModel.meta`. Li et al.,
    "Ditto: Fair and Robust Federated Learning Through Personalization", 2021, arXiv:2012.04221.

    Args:
        model: As in `fed_avg`.
        executor: Likewise.
        script: Likewise.
        rounds: Likewise.
        options: See `DittoOptions`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    check_options("ditto", options, DittoOptions)
    way = Way(recipe="ditto", settings={"ditto_lambda": options.get("ditto_lambda", 0.1)})
    return job_of(model, Trainer(executor, script), rounds, options=options, way=way)


def cyclic(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 5, **options: Unpack[CyclicOptions]
) -> Job:
    """Cyclic transfer: the model goes from site to site, and each trains on what the one before has made of it.

    A round is one pass over the sites. A site that fails or is lost is passed over. Sheller et al.,
    "Multi-Institutional Deep Learning Modeling Without Sharing Patient Data", 2018, arXiv:1810.04304.

    Args:
        model: As in `fed_avg`.
        executor: Likewise.
        script: Likewise.
        rounds: How many passes; at least 1.
        options: See `CyclicOptions`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    for key, reason in NOT_IN_TURN.items():
        if key in options:
            raise ConfigError(f"cyclic {reason}", key=key)
    check_options("cyclic", options, CyclicOptions)
    return job_of(model, Trainer(executor, script), rounds, options=options, way=Way(recipe="cyclic", in_turn=True))


def cross_site_eval(
    model: Model | None = None,
    *,
    executor: Part = None,
    script: Script = None,
    **options: Unpack[EvaluationOptions],
) -> Job:
    """Evaluation across sites: every model on every site's data.

    Sites are asked for their own best models (the task `submit_model`), and each measures them all, and `model`, on its
    own data (the task `validate`). To measure what a training has made, give its recipe `evaluate_across_sites=True`.

    Args:
        model: The weights of a model of the server's, as in `fed_avg`; None: only the sites' own models are measured.
        executor: As in `fed_avg`, but for these two tasks.
        script: Likewise.
        options: See `EvaluationOptions`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    check_options("cross_site_eval", options, EvaluationOptions)
    if model is None and not options.get("site_models", True):
        raise ConfigError("there is nothing to measure: give a model, or let the sites give theirs", key="site_models")
    weights = None if model is None else InitialWeights.of(model)
    min_sites = options.get("min_sites")
    return make_evaluation(weights, Trainer(executor, script), min_sites=min_sites, options=options)
