"""What sites are told with each training task, by round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.model import make_model_learnable
from hansa.apis.shareable import Shareable
from hansa.components.shareablegenerators import FullModelShareableGenerator
from hansa.components.shareablegenerators.fed_opt import FedOptShareableGenerator
from hansa.wire.codec import to_bytes

GENERATORS = [FullModelShareableGenerator, FedOptShareableGenerator]


def context(**props: Any) -> FLContext:
    fl_ctx = FLContext()
    for name, value in props.items():
        fl_ctx.set_prop(name, value)
    return fl_ctx


def task(generator: FullModelShareableGenerator, fl_ctx: FLContext) -> Shareable:
    return generator.learnable_to_shareable(make_model_learnable({"w": np.ones(2)}, {}), fl_ctx)


@pytest.mark.parametrize("made", GENERATORS)
def test_numbers_texts_and_schedules_become_headers_of_the_round(made: type[FullModelShareableGenerator]) -> None:
    settings = {
        "learning_rate": {"schedule": "step", "initial": 1.0, "factor": 0.5, "every": 2},
        "fed_prox_mu": 0.01,
        "epochs": 3,
        "loss": "huber",
    }
    generator = made(train_settings=settings)
    rates = []
    for number in range(4):
        shareable = task(generator, context(**{AppConstants.CURRENT_ROUND: number}))
        rates.append(shareable.get_header("learning_rate"))
        assert shareable.get_header("fed_prox_mu") == 0.01
        assert shareable.get_header("epochs") == 3
        assert shareable.get_header("loss") == "huber"
        assert from_shareable(shareable).data["w"].tolist() == [1.0, 1.0]
    assert rates == [1.0, 1.0, 0.5, 0.5]


def test_a_schedule_without_rounds_ends_with_the_run() -> None:
    generator = FullModelShareableGenerator(train_settings={"learning_rate": {"schedule": "linear", "initial": 1.0}})
    props = {AppConstants.START_ROUND: 2, AppConstants.NUM_ROUNDS: 6}  # rounds 2 to 7: the end is round 8
    headers = [
        task(generator, context(**props, **{AppConstants.CURRENT_ROUND: number})).get_header("learning_rate")
        for number in (2, 4, 7)
    ]
    assert headers == [0.75, 0.5, 0.125]
    with pytest.raises(ValueError, match=r"train_settings\.learning_rate\.rounds is missing"):
        task(generator, context(**{AppConstants.CURRENT_ROUND: 0}))


@pytest.mark.parametrize("made", GENERATORS)
@pytest.mark.parametrize("settings", [None, {}])
def test_without_settings_the_message_is_the_same_byte_for_byte(
    made: type[FullModelShareableGenerator], settings: dict[str, Any] | None
) -> None:
    plain = Shareable()
    plain.set_header("__content_type__", "DXO")
    plain["DXO"] = {"kind": "WEIGHTS", "data": {"w": np.ones(2)}, "meta": {}}
    fl_ctx = context(**{AppConstants.CURRENT_ROUND: 1})
    assert to_bytes(task(made(train_settings=settings), fl_ctx)) == to_bytes(plain)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ([1], r"train_settings must be a dict of settings by name, but got \[1\]"),
        ({"": 1}, "train_settings: the names of settings are texts, not ''"),
        ({"lr": None}, r"train_settings\.lr must be a number, a text or a schedule, but got None"),
        ({"lr": True}, r"train_settings\.lr must be a number, a text or a schedule, but got True"),
        ({"lr": float("nan")}, r"train_settings\.lr must be a finite number, but got nan"),
        ({"lr": {"schedule": "sine"}}, r"train_settings\.lr\.schedule: there is no schedule 'sine'; known are"),
        ({"current_round": 1}, r"train_settings\.current_round: this header has another meaning"),
        ({"__task_id__": 1}, r"train_settings\.__task_id__: this header has another meaning"),
    ],
)
def test_what_is_refused(settings: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FullModelShareableGenerator(train_settings=settings)
