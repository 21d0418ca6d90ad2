"""A model that takes longer on its way than any silence is borne, each way: it comes, and no setting was changed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hansa.faults.arena import Arena
from hansa.faults.sample_job import MomentumSite
from hansa.faults.tcp_proxy import NO_FAULTS
from hansa.jobs import Component, fed_avg
from hansa.jobs.life import JobState
from hansa.wire.net_options import NetLimits

pytestmark = pytest.mark.slow

BYTES_PER_S = 64_000
ONE_WAY_S = 0.15
MODEL = {"w": np.zeros((650, 1000), np.float32)}
PATIENCE_S = 400.0


def test_a_large_model_over_a_slow_link(tmp_path: Path) -> None:
    takes_s = MODEL["w"].nbytes / BYTES_PER_S
    assert takes_s > NetLimits().lost_after_s + 5
    job = fed_avg(MODEL, executor=Component(MomentumSite), rounds=1, params_type="diff", name="slow")
    with Arena(tmp_path / "arena", ["site-1", "site-2"]) as arena:
        expected = arena.session.submit(job).wait(PATIENCE_S).model_digest
        for proxy in arena.proxies.values():
            proxy.faults = replace(NO_FAULTS, bytes_per_s=BYTES_PER_S, latency_s=ONE_WAY_S)
        began = time.monotonic()
        run = arena.session.submit(job).wait(PATIENCE_S)
        assert run.state is JobState.COMPLETED
        assert run.model_digest == expected
        assert time.monotonic() - began > 2 * takes_s
        assert [list(each.refused) for each in run.history.rounds] == [[]]
        assert arena.session.incidents() == []
