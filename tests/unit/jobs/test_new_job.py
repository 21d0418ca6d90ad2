"""Jobs to start from: whole, in order, and with code that people can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.errors import ConfigError
from hansa.jobs.job import Job
from hansa.jobs.job_check import check_build, check_job
from hansa.jobs.new_job import TEMPLATES, new_job
from hansa.jobs.overview import parts_of


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_job_is_in_order(template: str, tmp_path: Path) -> None:
    new_job("mine", template=template, rounds=7).save(tmp_path / "mine")
    job = Job.load(tmp_path / "mine")
    assert job.name == "mine"
    check_job(job, num_sites=4)
    check_build(job, num_sites=4)
    workflow = parts_of(job, num_sites=4)[0]
    assert workflow.args["num_rounds"] == 7
    assert 4 in workflow.args.values()  # waits for all sites of the run
    assert list((tmp_path / "mine/app/custom").iterdir())


def test_there_is_no_such_template() -> None:
    with pytest.raises(ConfigError, match="template: there is no template 'learnr'; did you mean 'learner'"):
        new_job("mine", template="learnr")
    with pytest.raises(ConfigError, match="; there are fed_avg_numpy, learner, workflow"):
        new_job("mine", template="x")
