"""Evaluation across sites: every model on every site's data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hansa.apis.app_constant import AppConstants, ModelName
from hansa.apis.app_event_type import AppEventType
from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.dxo import DXO
from hansa.apis.engine import UNDECIDED, OffersDecisions, port
from hansa.apis.fl_context import FLContext
from hansa.apis.formatter import Formatter
from hansa.apis.model_locator import ModelLocator
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.reported import dxo_of
from hansa.components.workflows.checks import check_ints, check_strs
from hansa.components.workflows.contribution import failure_of
from hansa.components.workflows.evaluation_files import EvaluationFiles, EvaluationRecord
from hansa.components.workflows.parts import component_of, history_of
from hansa.components.workflows.patience import take_part, wait_for_sites
from hansa.errors import ConfigError

_GET_STATS = "info_collector.get_stats"
_STATS_COLLECTOR = "info_collector.stats_collector"
_SERVER_MODEL = "SRV_"
_UNMEASURED = "{}: the model of {} could not be measured: {}"


class CrossSiteModelEval(Controller):
    """Fetches a model from each site, and has it and the server's measured by all sites on their own data.

    Sites are asked for their models, then get the server's to validate, then the sites' in the code-point order of
    their names, each as soon as it and those before it have come. Nothing polls. A site without a model, and a
    validation that fails, cost one line each; all else stands. A site that is away for longer than
    `wait_for_clients_timeout` is not waited for.

    What comes stands in the run's history, and as files (see `EvaluationFiles`) below the run folder's `cross_val_dir`.
    It commits nothing: after a restart on a federation its tasks are posted again, in the same order, and results that
    have been received are there. Which sites have given no model is decided once.

    Args:
        task_check_period: See `Controller`.
        cross_val_dir: The folder below the run's.
        submit_model_timeout: Seconds that sites have to send their models; 0 for any time.
        validation_timeout: Seconds that sites have to measure one model; 0 for any time.
        model_locator_id: Component id of the `ModelLocator` of the server's models; "" for none of the server's.
        formatter_id: Component id of a `Formatter` for statistics, "" for none; it finds `EvaluationRecord.paths` as
            VALIDATION_RESULT.
        submit_model_task_name: The task that asks a site for its best model; "" for none of the sites'.
        validation_task_name: The task that has a model measured; sites answer with a DXO of METRICS.
        cleanup_models: Whether the files of the models go when all is measured.
        participating_clients: Names of the sites; None for those that are live when it begins.
        wait_for_clients_timeout: Seconds to wait for them, at the beginning and when one is lost.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is out of range.
    """

    hears = frozenset((_GET_STATS,))

    def __init__(
        self,
        task_check_period: float = 0.5,
        cross_val_dir: str = AppConstants.CROSS_VAL_DIR,
        submit_model_timeout: int = 600,
        validation_timeout: int = 6000,
        model_locator_id: str = "",
        formatter_id: str = "",
        submit_model_task_name: str = AppConstants.TASK_SUBMIT_MODEL,
        validation_task_name: str = AppConstants.TASK_VALIDATION,
        cleanup_models: bool = False,
        participating_clients: list[str] | None = None,
        wait_for_clients_timeout: int = 300,
    ) -> None:
        if not isinstance(task_check_period, float):
            raise TypeError(f"task_check_period must be float but got {type(task_check_period)}")
        super().__init__(task_check_period)
        check_ints(submit_model_timeout=submit_model_timeout, validation_timeout=validation_timeout)
        check_ints(wait_for_clients_timeout=wait_for_clients_timeout)
        check_strs(cross_val_dir=cross_val_dir, model_locator_id=model_locator_id, formatter_id=formatter_id)
        check_strs(submit_model_task_name=submit_model_task_name, validation_task_name=validation_task_name)
        if participating_clients is not None and not isinstance(participating_clients, list):
            raise TypeError(f"participating_clients must be a list of names but got {type(participating_clients)}")
        self.cross_val_dir = cross_val_dir
        self.submit_model_timeout = submit_model_timeout
        self.validation_timeout = validation_timeout
        self.model_locator_id = model_locator_id
        self.formatter_id = formatter_id
        self.submit_model_task_name = submit_model_task_name
        self.validation_task_name = validation_task_name
        self.cleanup_models = cleanup_models
        self.participating_clients = participating_clients
        self.wait_for_clients_timeout = wait_for_clients_timeout
        self._locator: ModelLocator | None = None
        self._formatter: Formatter | None = None
        self._files: EvaluationFiles | None = None
        self._record: EvaluationRecord | None = None
        self._sites: list[str] = []
        self._missing: dict[str, str] = {}  # sites without a model, and why
        self._models: set[str] = set()  # sites whose model is there
        self._answered: dict[Task, set[str]] = {}

    # -- the run -----------------------------------------------------------------------------------------------

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell who collects statistics what the formatter makes of the results."""
        super().handle_event(event_type, fl_ctx)
        collector = fl_ctx.get_prop(_STATS_COLLECTOR) if event_type == _GET_STATS else None
        if collector is not None and self._formatter is not None and self._record is not None:
            with fl_ctx.get_engine().new_context() as own:
                _put(own, AppConstants.VALIDATION_RESULT, self._record.paths)
                text = self._formatter.format(own)
            collector.add_info(group_name=self._name, info={"val_results": text})

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Find the components, and make room for the files."""
        engine = fl_ctx.get_engine()
        folder = Path(engine.get_workspace().get_run_dir(fl_ctx.get_run_number())) / self.cross_val_dir
        files = EvaluationFiles(folder)
        fl_ctx.set_prop(AppConstants.CROSS_VAL_MODEL_PATH, str(files.models))
        fl_ctx.set_prop(AppConstants.CROSS_VAL_RESULTS_PATH, str(files.results))
        self.fire_event(AppEventType.CROSS_VAL_INIT, fl_ctx)
        files.begin()
        try:
            if self.model_locator_id:
                self._locator = component_of(engine, self.model_locator_id, kind=ModelLocator)
            if self.formatter_id:
                self._formatter = component_of(engine, self.formatter_id, kind=Formatter)
        except ConfigError as error:
            self.system_panic(f"{self._name}: {error}", fl_ctx)
            return
        self._files = files
        self._record = EvaluationRecord(files, history_of(engine))

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Fetch the models, have them measured, wait for the rest."""
        if self._files is None:
            return
        self._sites = take_part(
            self,
            self.participating_clients,
            self._desk.waiter,
            limit_s=self.wait_for_clients_timeout,
            abort_signal=abort_signal,
            fl_ctx=fl_ctx,
        )
        if abort_signal.triggered:
            return
        if not self._sites:
            self.system_panic(f"{self._name}: no site is here that could measure a model", fl_ctx)
            return
        submission = self._ask_for_models(fl_ctx)
        if not self._send_server_models(fl_ctx) or abort_signal.triggered:
            return
        for site in self._sites if submission is not None else ():
            assert submission is not None
            self._await_model(site, submission, abort_signal)
            if abort_signal.triggered:
                return
            self._settle_model(site, fl_ctx)
            if site in self._models:
                self._have_measured(site, fl_ctx)
        self._await_results(abort_signal)
        if not abort_signal.triggered:
            self._conclude(fl_ctx)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is held."""

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A measurement that comes late counts all the same; a model does not."""
        if task_name == self.validation_task_name and client.name in self._sites:
            self._take_result(client.name, result, fl_ctx)
        else:
            self.log_warning(fl_ctx, f"{client.name}: a result of task {task_name} came too late and is dropped")

    # -- models ------------------------------------------------------------------------------------------------

    def _ask_for_models(self, fl_ctx: FLContext) -> Task | None:
        """Ask each site for its best model; None if none is wanted of them."""
        if not self.submit_model_task_name:
            return None
        decisions = port(fl_ctx.get_engine(), OffersDecisions)
        for site in self._sites:
            before = UNDECIDED if decisions is None else decisions.decided(f"{self.workflow_index}/no model/{site}")
            if before is not UNDECIDED and before is not None:
                self._missing[site] = str(before)
        asked = [site for site in self._sites if site not in self._missing]
        data = Shareable()
        data.set_header(AppConstants.SUBMIT_MODEL_NAME, ModelName.BEST_MODEL)
        task = Task(self.submit_model_task_name, data, timeout=self.submit_model_timeout)
        task.result_received_cb = self._model_received
        if asked:
            self.broadcast(task, fl_ctx, asked, len(asked))
        return task

    def _send_server_models(self, fl_ctx: FLContext) -> bool:
        """Have the server's models measured; False if one of them cannot be found."""
        if self._locator is None:
            return True
        assert self._files is not None
        for name in self._locator.get_model_names(fl_ctx):
            dxo = self._locator.locate_model(name, fl_ctx)
            if not isinstance(dxo, DXO):
                self.system_panic(f"{self._name}: {self.model_locator_id!r} cannot find the model {name!r}", fl_ctx)
                return False
            owner = _SERVER_MODEL + name
            self._files.keep_model(owner, dxo)
            self._have_measured(owner, fl_ctx)
        return True

    def _model_received(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        site, result = client_task.client.name, client_task.result
        client_task.result = None
        if result is None or self._files is None:
            return
        _put(fl_ctx, AppConstants.RECEIVED_MODEL, result)
        _put(fl_ctx, AppConstants.RECEIVED_MODEL_OWNER, site)
        _put(fl_ctx, AppConstants.CROSS_VAL_DIR, self.cross_val_dir)
        self.fire_event(AppEventType.RECEIVE_BEST_MODEL, fl_ctx)
        dxo, failure = dxo_of(result), failure_of(result)
        if failure is not None or dxo is None:
            self._missing[site] = failure or "its answer holds no model"
        else:
            self._files.keep_model(site, dxo)
            self._models.add(site)
        self._desk.waiter.notify()

    def _await_model(self, site: str, submission: Task, abort_signal: Signal) -> None:
        """Until it is known whether a site has a model."""

        def owed() -> set[str]:
            is_known = site in self._models or site in self._missing or submission.completion_status is not None
            return set() if is_known else {site}

        self._wait_for(owed, abort_signal)

    def _wait_for(self, owed: Callable[[], set[str]], abort_signal: Signal) -> None:
        desk, limit_s = self._desk, self.wait_for_clients_timeout
        wait_for_sites(owed, engine=desk.engine, waiter=desk.waiter, limit_s=limit_s, abort_signal=abort_signal)

    def _settle_model(self, site: str, fl_ctx: FLContext) -> None:
        """Keep in mind that a site has no model, so that none of it is measured after a restart, either."""
        if site in self._models:
            return
        reason = self._missing.setdefault(site, f"no model within {self.submit_model_timeout} s")
        self.log_error(fl_ctx, f"{site}: its model is missing in the evaluation: {reason}")
        decisions = port(fl_ctx.get_engine(), OffersDecisions)
        if decisions is not None:
            decisions.decide(f"{self.workflow_index}/no model/{site}", reason)
        assert self._record is not None
        self._record.no_model(site, reason)

    # -- results -----------------------------------------------------------------------------------------------

    def _have_measured(self, owner: str, fl_ctx: FLContext) -> None:
        """Give a model to all sites."""
        props = {AppConstants.MODEL_OWNER: owner}
        task = Task(self.validation_task_name, Shareable(), props=props, timeout=self.validation_timeout)
        task.before_task_sent_cb, task.result_received_cb = self._before_model_sent, self._result_received
        task.task_done_cb = self._measured
        self._answered[task] = set()
        self.broadcast(task, fl_ctx, list(self._sites), len(self._sites))

    def _before_model_sent(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        task = client_task.task
        owner = task.props[AppConstants.MODEL_OWNER]
        if AppConstants.DXO not in task.data:  # read when the first site wants it, and kept until the last has had it
            assert self._files is not None
            data = self._files.model(owner).to_shareable()
            data.set_header(AppConstants.MODEL_OWNER, owner)
            data.add_cookie(AppConstants.MODEL_OWNER, owner)
            task.data = data
        _put(fl_ctx, AppConstants.DATA_CLIENT, client_task.client)
        _put(fl_ctx, AppConstants.MODEL_OWNER, owner)
        _put(fl_ctx, AppConstants.MODEL_TO_VALIDATE, task.data)
        _put(fl_ctx, AppConstants.PARTICIPATING_CLIENTS, list(self._sites))
        self.fire_event(AppEventType.SEND_MODEL_FOR_VALIDATION, fl_ctx)

    def _result_received(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        site, result = client_task.client.name, client_task.result
        client_task.result = None
        if result is not None:
            self._answered.setdefault(client_task.task, set()).add(site)
            # What stands in the place of a lost site's result has no cookies.
            result.add_cookie(AppConstants.MODEL_OWNER, client_task.task.props[AppConstants.MODEL_OWNER])
            self._take_result(site, result, fl_ctx)

    def _take_result(self, site: str, result: Shareable, fl_ctx: FLContext) -> None:
        assert self._record is not None
        owner = str(result.get_cookie(AppConstants.MODEL_OWNER, ""))
        error = self._record.take(site, owner, result=result)
        if error is not None:
            self.log_error(fl_ctx, _UNMEASURED.format(site, owner, error))
        _put(fl_ctx, AppConstants.MODEL_OWNER, owner)
        _put(fl_ctx, AppConstants.DATA_CLIENT, site)
        _put(fl_ctx, AppConstants.VALIDATION_RESULT, result)
        self.fire_event(AppEventType.VALIDATION_RESULT_RECEIVED, fl_ctx)

    def _measured(self, task: Task, fl_ctx: FLContext) -> None:
        task.data = Shareable()  # task and client tasks refer to each other: the model must not wait for the collector
        self._desk.waiter.notify()

    def _await_results(self, abort_signal: Signal) -> None:
        """Until all that can come has come."""

        def owed() -> set[str]:
            standing = [task for task in self._answered if task.completion_status is None]
            return {site for task in standing for site in self._sites if site not in self._answered[task]}

        self._wait_for(owed, abort_signal)
        self.cancel_all_tasks()

    def _conclude(self, fl_ctx: FLContext) -> None:
        assert self._record is not None
        for task, answered in self._answered.items():
            owner = task.props[AppConstants.MODEL_OWNER]
            for site in self._sites:
                if site not in answered:
                    error = f"no result within {self.validation_timeout} s, or the site is gone"
                    self._record.unmeasured(site, owner, error=error)
                    self.log_error(fl_ctx, _UNMEASURED.format(site, owner, error))
        if self.cleanup_models and self._files is not None:
            self._files.drop_models()
        self.log_info(fl_ctx, f"{len(self._answered)} models were measured by {len(self._sites)} sites")


def _put(fl_ctx: FLContext, key: str, value: object) -> None:
    fl_ctx.set_prop(key, value, private=True, sticky=False)
