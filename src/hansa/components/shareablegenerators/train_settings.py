"""What sites are told with each training task: learning rates and the like, by round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hansa.algorithms.schedules import Schedule, from_config, value_at
from hansa.apis.app_constant import AppConstants
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable

_NAME = "train_settings"
_TAKEN = frozenset((AppConstants.CURRENT_ROUND, AppConstants.NUM_ROUNDS, AppConstants.CONTRIBUTION_ROUND))


class TrainSettings:
    """Checked settings that become headers of a task.

    Args:
        config: By name of the header a number, a text, or a schedule (`hansa.algorithms.schedules`).

    Raises:
        ValueError: Something else, or a header that the runtime sets itself; names the key.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:  # Any: plain JSON
        if not isinstance(config, Mapping):
            raise ValueError(f"{_NAME} must be a dict of settings by name, but got {config!r}")
        self._settings: dict[str, float | str | Schedule] = {}
        for name, value in config.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"{_NAME}: the names of settings are texts, not {name!r}")
            if name in _TAKEN or name.startswith("__"):
                raise ValueError(f"{_NAME}.{name}: this header has another meaning; take another name")
            self._settings[name] = _checked(value, f"{_NAME}.{name}")

    def put_into(self, shareable: Shareable, fl_ctx: FLContext) -> None:
        """Set the headers of a task.

        Args:
            shareable: The task's data.
            fl_ctx: CURRENT_ROUND is the round; START_ROUND and NUM_ROUNDS, where they are known, say when the run ends.

        Raises:
            ValueError: A schedule has no value.
        """
        for name, setting in self._settings.items():
            shareable.set_header(name, in_this_round(setting, fl_ctx) if isinstance(setting, Schedule) else setting)


def in_this_round(schedule: Schedule, fl_ctx: FLContext) -> float:
    """A schedule's value in the context's CURRENT_ROUND; in round 0 where there are no rounds.

    Raises:
        ValueError: It has no value.
    """
    number = fl_ctx.get_prop(AppConstants.CURRENT_ROUND) or 0
    num_rounds = fl_ctx.get_prop(AppConstants.NUM_ROUNDS)
    end = None if num_rounds is None else (fl_ctx.get_prop(AppConstants.START_ROUND) or 0) + num_rounds
    return value_at(schedule, number, num_rounds=end)


def _checked(value: object, key: str) -> float | str | Schedule:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError(f"{key} must be a finite number, but got {value!r}")
        return value
    if isinstance(value, Mapping):
        return from_config(value, key=key)
    raise ValueError(f"{key} must be a number, a text or a schedule, but got {value!r}")
