"""Numbers that change from round to round: learning rates, the weight of a proximal term.

A schedule is plain JSON, `{"schedule": KIND, ...}`. With r the number of the round, counted from 0::

    constant      value
    step          initial * factor^floor(r / every)
    exponential   initial * factor^r
    cosine        final + (initial - final) * (1 + cos(pi r / rounds)) / 2
    linear        initial + (final - initial) * r / rounds
    piecewise     `values` is a list of [from round, value]: the value of the last entry that has begun

`cosine` (Loshchilov and Hutter, 2017, arXiv:1608.03983, without restarts) and `linear` reach `final` (0 unless given)
at round `rounds` and stay there; without `rounds` that is the end of the run. Warm-up (Goyal et al., 2017,
arXiv:1706.02677): for `warmup_rounds` W of any schedule, the value goes up in even steps from `warmup_from` (0 unless
given) to the schedule's first value v(0), at round W, where the schedule itself begins, with W rounds less to go::

    r < W         warmup_from + (v(0) - warmup_from) * (r + 1) / (W + 1)

Example:
    >>> schedule = from_config({"schedule": "step", "initial": 0.5, "factor": 0.1, "every": 10}, key="learning_rate")
    >>> [value_at(schedule, r) for r in (0, 9, 10)]
    [0.5, 0.5, 0.05]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

KIND = "schedule"
"""The key that makes a dict a schedule, and says of which kind."""


@dataclass(frozen=True)
class Schedule:
    """A checked schedule; made by `from_config`.

    Attributes:
        kind: One of the six.
        numbers: Its other keys, defaults filled in.
        key: What it is called in errors.
    """

    kind: str
    numbers: Mapping[str, Any]  # Any: numbers, None, and the pairs of `piecewise`
    key: str


def from_config(config: object, *, key: str) -> Schedule:
    """The schedule that a job's config describes.

    Args:
        config: Plain JSON: an object as above, or a number, which is a constant.
        key: Where it stands, for errors.

    Raises:
        ValueError: It is something else; names the key that is wrong.
    """
    if _is_number(config):
        return Schedule("constant", {"value": config, "warmup_rounds": 0, "warmup_from": 0.0}, key)
    if not isinstance(config, Mapping) or KIND not in config:
        example = "{'schedule': 'cosine', 'initial': 0.1}"
        raise ValueError(f"{key} must be a number or a schedule such as {example}, but got {config!r}")
    kind = config[KIND]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"{key}.{KIND}: there is no schedule {kind!r}; known are {', '.join(_KINDS)}")
    known = {**_KINDS[kind], **_WARM_UP}
    for name in config:
        if name not in known and name != KIND:
            raise ValueError(f"{key}.{name}: a schedule {kind!r} has no such key; it has {', '.join(known)}")
    numbers: dict[str, Any] = {}  # Any: as in Schedule
    for name, (check, default) in known.items():
        if name in config:
            numbers[name] = check(config[name], f"{key}.{name}")
        elif default is _MISSING:
            raise ValueError(f"{key}.{name} is missing; a schedule {kind!r} needs it")
        else:
            numbers[name] = default
    if numbers.get("rounds") is not None and numbers["rounds"] <= numbers["warmup_rounds"]:
        raise ValueError(f"{key}.rounds must be above warmup_rounds, but got {numbers['rounds']!r}")
    return Schedule(kind, numbers, key)


def value_at(schedule: Schedule, round_number: int, *, num_rounds: int | None = None) -> float:
    """The schedule's value in a round.

    Args:
        schedule: The schedule.
        round_number: r, from 0 on.
        num_rounds: The round at which the run ends, for schedules that do not say how long they last.

    Raises:
        ValueError: Nobody says how long it lasts, or its value grows beyond all numbers.
    """
    warm = int(schedule.numbers["warmup_rounds"])
    lasts = _rounds_of(schedule, num_rounds)
    if round_number >= warm:
        return _value(schedule, round_number - warm, lasts)
    begin = float(schedule.numbers["warmup_from"])
    return begin + (_value(schedule, 0, lasts) - begin) * (round_number + 1) / (warm + 1)


def _rounds_of(schedule: Schedule, num_rounds: int | None) -> int:
    if "rounds" not in schedule.numbers:
        return 1
    rounds = schedule.numbers["rounds"]
    if rounds is None:
        rounds = num_rounds
    if rounds is None:
        raise ValueError(f"{schedule.key}.rounds is missing, and nothing says how many rounds the run has")
    return max(1, int(rounds) - int(schedule.numbers["warmup_rounds"]))


def _value(schedule: Schedule, r: int, rounds: int) -> float:
    numbers = schedule.numbers
    if schedule.kind == "constant":
        return float(numbers["value"])
    if schedule.kind == "piecewise":
        return float([value for begin, value in numbers["values"] if begin <= r][-1])
    initial = float(numbers["initial"])
    if schedule.kind in ("step", "exponential"):
        try:
            return initial * math.pow(numbers["factor"], r // numbers.get("every", 1))
        except OverflowError:
            raise ValueError(f"{schedule.key} grows beyond all numbers by round {r}") from None
    final, share = float(numbers["final"]), min(r / rounds, 1.0)
    if schedule.kind == "linear":
        return initial + (final - initial) * share
    return final + (initial - final) * (1 + math.cos(math.pi * share)) / 2


# -- what the keys may hold -------------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: object, key: str) -> object:
    if not _is_number(value):
        raise ValueError(f"{key} must be a number, but got {value!r}")
    return value


def _positive(value: Any, key: str) -> object:  # Any: compared once it is a number
    if not _is_number(value) or value <= 0:
        raise ValueError(f"{key} must be a number above 0, but got {value!r}")
    return value


def _count(value: object, key: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{key} must be a whole number of at least {least}, but got {value!r}")
    return value


def _count_or_zero(value: object, key: str) -> int:
    return _count(value, key, least=0)


def _pairs(value: object, key: str) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"{key} must be a list of [from round, value], but got {value!r}")
    pairs: list[tuple[int, float]] = []
    for position, pair in enumerate(value):
        at = f"{key}[{position}]"
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not _is_number(pair[1]):
            raise ValueError(f"{at} must be [from round, value], but got {pair!r}")
        begin = _count(pair[0], at, least=0)
        if not pairs and begin != 0:
            raise ValueError(f"{at} must begin at round 0, but got {begin}")
        if pairs and begin <= pairs[-1][0]:
            raise ValueError(f"{at} must begin after round {pairs[-1][0]}, but got {begin}")
        pairs.append((begin, float(pair[1])))
    return tuple(pairs)


_MISSING = object()
_Key = tuple[Callable[[object, str], object], object]

_WARM_UP: dict[str, _Key] = {"warmup_rounds": (_count_or_zero, 0), "warmup_from": (_number, 0.0)}
_KINDS: dict[str, dict[str, _Key]] = {
    "constant": {"value": (_number, _MISSING)},
    "step": {"initial": (_number, _MISSING), "factor": (_positive, _MISSING), "every": (_count, _MISSING)},
    "exponential": {"initial": (_number, _MISSING), "factor": (_positive, _MISSING)},
    "cosine": {"initial": (_number, _MISSING), "final": (_number, 0.0), "rounds": (_count, None)},
    "linear": {"initial": (_number, _MISSING), "final": (_number, 0.0), "rounds": (_count, None)},
    "piecewise": {"values": (_pairs, _MISSING)},
}
