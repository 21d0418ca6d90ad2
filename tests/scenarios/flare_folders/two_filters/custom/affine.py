from nvflare.apis.dxo import from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.filter import Filter
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable


class Affine(Filter):
    """x -> factor x + offset, once it has heard that the run begins."""

    def __init__(self, factor: float, offset: float):
        super().__init__()
        self.factor = factor
        self.offset = offset
        self.has_started = False

    def handle_event(self, event_type: str, fl_ctx: FLContext):
        if event_type == EventType.START_RUN:
            self.has_started = True

    def process(self, data: Shareable, ctx: FLContext) -> Shareable:
        if not self.has_started:
            raise RuntimeError("missed the start of the run")
        dxo = from_shareable(data)
        dxo.data = {name: self.factor * value + self.offset for name, value in dxo.data.items()}
        return dxo.update_shareable(data)
