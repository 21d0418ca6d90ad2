"""MONAI's own contract for a site, `monai.fl.client.ClientAlgo`, as an executor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hansa.apis.app_constant import AppConstants, ModelName
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.components.scalars import as_float
from hansa.errors import MissingExtra, RunError

if TYPE_CHECKING:
    from monai.fl.client.client_algo import ClientAlgo
    from monai.fl.utils.exchange_object import ExchangeObject

Extra = dict[str, Any]  # Any: MONAI's `extra` holds whatever the two sides agree on


class ClientAlgoExecutor(Executor):
    """Trains, evaluates and submits with a `ClientAlgo`; a site that has one needs no other code.

    The algo is a component of the site. Before its first task it is initialised, with its site's name and the folder of
    the job's app in `extra`; where that raises, this task has failed with the cause, and the next one tries again. At
    the end of the run it is finalised, and told when a task is aborted.

    **train**: `evaluate` on the received model (its metrics are the result's INITIAL_METRICS; an algo that does not
    implement it, leaves them out), then `train` on it, then `get_weights`. `ExchangeObject.weight_type` says whether
    these are weights or differences, `statistics["num_executed_iterations"]` is the weight of the site in the mean.
    **validate**: `evaluate`; its numbers are the result. **submit_model**: `get_weights`, with the model type that
    the task names in `extra`.

    What the algo gets in `ExchangeObject.weights` are torch tensors of its own. In `extra` are, for every call, the
    round and the task's headers by their names.

    Args:
        client_algo_id: Component id of the `ClientAlgo`.
        train_task: The task that trains.
        submit_model_task: The task that asks for one of the site's models.
        validate_task: The task that measures a model.

    Raises:
        MissingExtra: MONAI is not installed.
    """

    hears = frozenset((EventType.ABORT_TASK, EventType.END_RUN))

    def __init__(
        self,
        client_algo_id: str,
        train_task: str = AppConstants.TASK_TRAIN,
        *,
        submit_model_task: str = AppConstants.TASK_SUBMIT_MODEL,
        validate_task: str = AppConstants.TASK_VALIDATION,
    ) -> None:
        super().__init__()
        try:
            import monai.fl.client.client_algo  # noqa: F401
        except ImportError:
            raise MissingExtra("ClientAlgoExecutor", extra="monai") from None
        self.client_algo_id = client_algo_id
        self.train_task = train_task
        self.submit_model_task = submit_model_task
        self.validate_task = validate_task
        self._algo: ClientAlgo | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Pass on an abort, and let the algo let go of everything at the end."""
        if self._algo is None:
            return
        if event_type == EventType.ABORT_TASK:
            self._algo.abort(_who(fl_ctx))
        elif event_type == EventType.END_RUN:
            algo, self._algo = self._algo, None
            algo.finalize(_who(fl_ctx))

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Do what the task's name says; TASK_UNKNOWN for other names.

        Raises:
            RunError: There is no such algo, or what it returned cannot be sent.
        """
        work = {
            self.train_task: self._train,
            self.validate_task: self._validate,
            self.submit_model_task: self._submit,
        }.get(task_name)
        if work is None:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        algo = self._ready(fl_ctx)
        extra = {**_who(fl_ctx), **_told(shareable)}
        result = work(algo, shareable, extra=extra, abort=abort_signal)
        if result is None or abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        return result.to_shareable()

    def _ready(self, fl_ctx: FLContext) -> ClientAlgo:
        """The algo, initialised."""
        from monai.fl.client.client_algo import ClientAlgo

        if self._algo is None:
            algo = fl_ctx.get_engine().get_component(self.client_algo_id)
            if not isinstance(algo, ClientAlgo):
                found = "there is none" if algo is None else f"it is a {type(algo).__name__}"
                raise RunError(f"component {self.client_algo_id!r} must be a ClientAlgo of MONAI, but {found}")
            algo.initialize(_who(fl_ctx))
            self._algo = algo
        return self._algo

    def _train(self, algo: ClientAlgo, task: Shareable, *, extra: Extra, abort: Signal) -> DXO | None:
        measured = _measured(algo, _received(task), extra)
        if abort.triggered:
            return None
        algo.train(_received(task), extra)
        if abort.triggered:
            return None
        result = _sent(algo.get_weights(extra))
        if measured:
            result.meta[MetaKey.INITIAL_METRICS] = measured
        return result

    def _validate(self, algo: ClientAlgo, task: Shareable, *, extra: Extra, abort: Signal) -> DXO:
        measured = _measured(algo, _received(task), extra)
        if measured is None:
            raise RunError(f"{type(algo).__name__} cannot evaluate: it does not implement evaluate()")
        return DXO(DataKind.METRICS, measured)

    def _submit(self, algo: ClientAlgo, task: Shareable, *, extra: Extra, abort: Signal) -> DXO:
        from monai.fl.utils.constants import ExtraItems, ModelType

        types = {ModelName.BEST_MODEL: ModelType.BEST_MODEL, ModelName.FINAL_MODEL: ModelType.FINAL_MODEL}
        wanted = types.get(task.get_header(AppConstants.SUBMIT_MODEL_NAME))
        return _sent(algo.get_weights(extra if wanted is None else {**extra, ExtraItems.MODEL_TYPE: wanted}))


def _who(fl_ctx: FLContext) -> Extra:
    """What MONAI's contract says of the site: its name, and where its app lies."""
    from monai.fl.utils.constants import ExtraItems

    app = fl_ctx.get_engine().get_workspace().get_app_dir(fl_ctx.get_run_number())
    return {ExtraItems.CLIENT_NAME: fl_ctx.get_identity_name(), ExtraItems.APP_ROOT: app}


def _told(task: Shareable) -> Extra:
    """The task's own headers, and its round."""
    headers = task.get(ReservedHeaderKey.HEADERS) or {}
    return {key: value for key, value in headers.items() if not key.startswith("__")}


def _received(task: Shareable) -> ExchangeObject:
    """The model of a task, as tensors that the algo may write into."""
    from monai.fl.utils.constants import WeightType
    from monai.fl.utils.exchange_object import ExchangeObject

    from hansa.components.torch.tensor_memory import tensor_over

    dxo = from_shareable(task)
    if dxo.data_kind != DataKind.WEIGHTS:
        raise RunError(f"a ClientAlgo takes WEIGHTS, but the task brings data of kind {dxo.data_kind}")
    weights = {name: tensor_over(value).clone() for name, value in dxo.data.items()}
    return ExchangeObject(weights=weights, weight_type=WeightType.WEIGHTS)


def _measured(algo: ClientAlgo, received: ExchangeObject, extra: Extra) -> dict[str, float] | None:
    """The numbers among the metrics of a model; None if the algo does not evaluate."""
    try:
        answer = algo.evaluate(received, extra)
    except NotImplementedError:
        return None
    found = getattr(answer, "metrics", None)
    if not isinstance(found, Mapping):
        raise RunError(f"{type(algo).__name__}.evaluate() must return an ExchangeObject with metrics")
    numbers = {str(name): _number(value) for name, value in found.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _number(value: object) -> float | None:
    """A number, or an array or tensor of a single one, as a float; None for everything else."""
    if hasattr(value, "detach"):  # a tensor, maybe on a device
        value = value.detach().cpu().numpy()
    return as_float(value.reshape(()) if getattr(value, "size", 0) == 1 and hasattr(value, "reshape") else value)


def _sent(answer: ExchangeObject) -> DXO:
    """What `get_weights` returned, as a site's result.

    Raises:
        RunError: It holds no weights, or does not say of which type they are.
    """
    import torch
    from monai.fl.utils.constants import FlStatistics, WeightType

    from hansa.components.torch.tensor_memory import array_over

    weights = getattr(answer, "weights", None)
    if not isinstance(weights, Mapping) or not weights:
        raise RunError("get_weights() must return an ExchangeObject with weights")
    kinds = {WeightType.WEIGHTS: DataKind.WEIGHTS, WeightType.WEIGHT_DIFF: DataKind.WEIGHT_DIFF}
    if answer.weight_type not in kinds:
        raise RunError("get_weights() must say in weight_type whether it returns WEIGHTS or WEIGHT_DIFF")
    arrays = {
        str(name): array_over(value).copy() if isinstance(value, torch.Tensor) else value
        for name, value in weights.items()
    }
    steps = _number((answer.statistics or {}).get(FlStatistics.NUM_EXECUTED_ITERATIONS))
    return DXO(kinds[answer.weight_type], arrays, {} if not steps else {MetaKey.NUM_STEPS_CURRENT_ROUND: steps})
