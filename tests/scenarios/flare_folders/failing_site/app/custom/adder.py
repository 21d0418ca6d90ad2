from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor


class Adder(Executor):
    """Adds the site's number."""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        number = int(fl_ctx.get_identity_name()[5:])
        weights = {name: value + number for name, value in from_shareable(shareable).data.items()}
        return DXO(DataKind.WEIGHTS, weights, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()
