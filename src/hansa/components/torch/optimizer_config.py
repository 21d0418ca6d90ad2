"""Torch optimizers and learning-rate schedulers as a job's config names them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from torch import nn, optim
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from hansa.errors import ConfigError

Config = Mapping[str, Any]  # Any: JSON


def build_optimizer(config: Config, parameters: Iterable[nn.Parameter], *, engine: Any) -> optim.Optimizer:
    """The optimizer of these parameters that `{"path" | "name", "args"?}` describes.

    Args:
        config: `name` is a class of `torch.optim`, `path` such a class (`torch.optim.SGD`) or another one that the
            engine may build.
        parameters: What it optimises.
        engine: Builds classes from elsewhere (Any: a server's engine, or a test's own).

    Raises:
        ConfigError: There is no such class, it is no optimizer, refuses its arguments, or needs a closure.
    """
    key = "optimizer_args"
    given = {"params": list(parameters)}
    made: optim.Optimizer = _build(config, given, home=optim, kind=optim.Optimizer, engine=engine, key=key)
    _check_step(made, key)
    return made


def build_scheduler(config: Config, optimizer: optim.Optimizer, *, engine: Any) -> LRScheduler:
    """The scheduler of this optimizer; described as in `build_optimizer`, with classes of `torch.optim.lr_scheduler`.

    Raises:
        ConfigError: There is no such class, it is no scheduler, refuses its arguments, or needs a metric.
    """
    key = "lr_scheduler_args"
    given = {"optimizer": optimizer}
    made: LRScheduler = _build(config, given, home=lr_scheduler, kind=LRScheduler, engine=engine, key=key)
    _check_step(made, key)
    return made


def _build(config: Config, given: Config, *, home: ModuleType, kind: type[Any], engine: Any, key: str) -> Any:
    """An object of that kind, from torch itself or by the engine (Any: of that kind)."""
    name, args = config.get("path", config.get("name")), config.get("args", {})
    if not isinstance(name, str) or not name:
        raise ConfigError(f"needs a 'path' or a 'name', such as {_example(home)!r}", key=key)
    if not isinstance(args, Mapping):
        raise ConfigError(f"'args' must be an object, not {type(args).__name__}", key=key)
    if clash := given.keys() & args.keys():
        raise ConfigError(f"{min(clash)!r} is filled in by its owner", key=key)
    made = _torchs_own(name, home, kind, key)
    try:
        if made is not None:
            thing = made(**args, **given)
        else:
            thing = engine.build_component({"path": name, "args": {**args, **given}})
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"cannot build {name}: {' '.join(str(error).split())}", key=key) from None
    except ConfigError as error:
        raise ConfigError(error.message, key=f"{key}.{error.key}" if error.key else key) from None
    if not isinstance(thing, kind):
        raise ConfigError(f"{name} is no {kind.__name__}", key=key)
    return thing


def _torchs_own(name: str, home: ModuleType, kind: type[Any], key: str) -> type[Any] | None:
    """The class of torch's by that name; None where the path leads elsewhere."""
    module, _, short = name.rpartition(".")
    if module and module.split(".")[:2] != ["torch", "optim"]:
        return None
    known = {
        word: found for word, found in vars(home).items() if inspect.isclass(found) and issubclass(found, kind)
    }  # only these, so that a name leads to nothing else that torch has imported
    if short in known and short not in ("Optimizer", "LRScheduler", "_LRScheduler"):
        return known[short]
    near = difflib.get_close_matches(short, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    what = "optimizer" if kind is optim.Optimizer else "learning-rate scheduler"
    raise ConfigError(f"torch has no {what} {name!r}{hint}", key=key)


def _check_step(made: optim.Optimizer | LRScheduler, key: str) -> None:
    """Refuse what makes no step without being told more."""
    parameters = inspect.signature(made.step).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if needed:
        name = type(made).__name__
        raise ConfigError(f"{name} cannot be used on a server: its step needs {needed[0]!r}", key=key)


def _example(home: ModuleType) -> str:
    return "torch.optim.SGD" if home is optim else "torch.optim.lr_scheduler.StepLR"
