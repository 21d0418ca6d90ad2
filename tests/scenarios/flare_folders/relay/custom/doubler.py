import re

import numpy as np
from nvflare.apis.dxo import from_shareable
from nvflare.apis.executor import Executor


class Doubler(Executor):
    """Doubles what it gets and adds the site's number, so that the order of the sites shows in the result."""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        name = fl_ctx.get_identity_name()
        dxo = from_shareable(shareable)
        dxo.data["value"] = np.asarray(dxo.data["value"] * 2 + int(re.findall(r"\d+", name)[0]))
        dxo.data["way"] = [*dxo.data["way"], name]
        return dxo.to_shareable()
