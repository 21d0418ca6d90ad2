from constants import NPConstants
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants


class NPTrainer(Executor):
    def __init__(self, delta=1, train_task=AppConstants.TASK_TRAIN):
        super().__init__()
        if not isinstance(delta, int):
            raise TypeError("delta must be an int")
        self._delta = delta
        self._train_task = train_task
        self._ready = False

    def handle_event(self, event_type: str, fl_ctx: FLContext):
        if event_type == EventType.START_RUN:
            self._ready = True

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if abort_signal.triggered:
            return make_reply(ReturnCode.TASK_ABORTED)
        if task_name != self._train_task or not self._ready:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        try:
            incoming = from_shareable(shareable)
        except ValueError:
            self.system_panic("no DXO in the task's data", fl_ctx)
            return make_reply(ReturnCode.BAD_TASK_DATA)
        if incoming.data_kind != DataKind.WEIGHTS:
            self.system_panic("only weights can be trained", fl_ctx)
            return make_reply(ReturnCode.BAD_TASK_DATA)
        weights = incoming.data[NPConstants.NUMPY_KEY] + self._delta
        outgoing = DXO(data_kind=incoming.data_kind, data={NPConstants.NUMPY_KEY: weights}, meta={})
        outgoing.set_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND, 1)
        return outgoing.to_shareable()
