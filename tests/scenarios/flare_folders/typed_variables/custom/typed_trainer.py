from nvflare.apis.dxo import from_shareable
from nvflare.apis.executor import Executor


class Net:
    """No component of FLARE's, as a torch module is none."""

    def __init__(self, width):
        if type(width) is not int:
            raise TypeError(f"width must be int, but got {type(width)}")
        self.width = width


class TypedTrainer(Executor):
    """Adds lr * width, which is 1."""

    def __init__(self, model, optimizer, folder):
        super().__init__()
        if not isinstance(model, Net) or optimizer != {"lr": 0.25, "steps": [4, {"verbose": False}]}:
            raise TypeError(f"got {model} and {optimizer}")
        if type(optimizer["steps"][0]) is not int or optimizer["steps"][1]["verbose"] is not False:
            raise TypeError("a variable has lost its type")
        if folder != "data/train-004":
            raise ValueError(folder)
        self.delta = optimizer["lr"] * model.width

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        dxo = from_shareable(shareable)
        dxo.data["w"] = dxo.data["w"] + self.delta
        return dxo.to_shareable()
