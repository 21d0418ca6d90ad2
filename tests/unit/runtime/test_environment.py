"""What a job process finds in its environment."""

from __future__ import annotations

import pytest

from hansa.errors import ConfigError
from hansa.runtime.environment import MALLOC, THREAD_VARIABLES, job_environment

AGENTS = {
    "HOME": "/h",
    "PATH": "/bin",
    "LANG": "C.UTF-8",
    "LC_TIME": "de_DE",
    "TZ": "UTC",
    "PYTHONPATH": "/p",
    "https_proxy": "http://proxy",
    "NO_PROXY": "localhost",
    "SSL_CERT_FILE": "/c",
    "CUDA_VISIBLE_DEVICES": "2,GPU-a,5",
    "OMP_NUM_THREADS": "64",
    "AWS_SECRET_ACCESS_KEY": "s",
    "HANSA_KIT": "/k",
    "LD_PRELOAD": "/l",
    "PYTHONSTARTUP": "/s",
}
ALWAYS = {"HOME": "/h", "PATH": "/bin", "LANG": "C.UTF-8", "LC_TIME": "de_DE", "TZ": "UTC", **MALLOC}
IN_POC = {"PYTHONPATH": "/p", "https_proxy": "http://proxy", "NO_PROXY": "localhost", "SSL_CERT_FILE": "/c"}


def test_only_what_is_listed_is_passed_on() -> None:
    threads = dict.fromkeys(THREAD_VARIABLES, "3")
    gpus = {"CUDA_VISIBLE_DEVICES": "2,GPU-a,5"}
    assert job_environment(AGENTS, poc=False, gpus=None, threads=3) == {**ALWAYS, **threads, **gpus}
    assert job_environment(AGENTS, poc=True, gpus=None, threads=3) == {**ALWAYS, **IN_POC, **threads, **gpus}
    assert job_environment({}, poc=True, gpus=None, threads=1) == {**MALLOC, **dict.fromkeys(THREAD_VARIABLES, "1")}


@pytest.mark.parametrize(
    ("seen", "gpus", "visible"),
    [
        (None, [0, 2], "0,2"),
        (None, [], ""),
        ("2,GPU-a,5", [0, 1], "2,GPU-a"),
        ("2, 3", [1], "3"),
        ("2,3", [], ""),
        ("", [], ""),
    ],
)
def test_a_job_sees_its_own_gpus_of_those_that_its_agent_sees(seen: str | None, gpus: list[int], visible: str) -> None:
    base = {} if seen is None else {"CUDA_VISIBLE_DEVICES": seen}
    assert job_environment(base, poc=False, gpus=gpus, threads=1)["CUDA_VISIBLE_DEVICES"] == visible


def test_a_gpu_that_the_agent_does_not_see_is_refused() -> None:
    with pytest.raises(ConfigError, match="^there is no GPU 1: CUDA_VISIBLE_DEVICES names 1$"):
        job_environment({"CUDA_VISIBLE_DEVICES": "3"}, poc=False, gpus=[0, 1], threads=1)
