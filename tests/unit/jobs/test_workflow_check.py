"""What a shipped workflow asks for, held against the run and the other components."""

from __future__ import annotations

from typing import Any

import pytest

from hansa.errors import ConfigError
from hansa.jobs.workflow_check import check_workflows

PARTS = ("aggregator", "persistor", "shareable_generator")  # the ids that ScatterAndGather asks for by default
PATH = "hansa.components.workflows.scatter_and_gather.ScatterAndGather"
FLARES = "nvflare.app_common.workflows.scatter_and_gather.ScatterAndGather"


def check(*workflows: dict[str, Any], parts: tuple[str, ...] = PARTS, disabled: str = "") -> None:
    """Check these workflows in a run of two sites."""
    components = [{"id": part, "path": "x.Y", "disabled": part == disabled} for part in parts]
    check_workflows({"components": components, "workflows": list(workflows)}, "f.json", num_sites=2)


def flow(named: str = PATH, **args: Any) -> dict[str, Any]:
    return {"path" if "." in named else "name": named, "args": args}


@pytest.mark.parametrize("named", [PATH, FLARES, "ScatterAndGather"])
def test_more_sites_than_there_are(named: str) -> None:
    check(flow(named, min_clients=2))
    with pytest.raises(ConfigError) as caught:
        check(flow(), flow(named, min_clients=3))
    assert str(caught.value) == "f.json: workflows[1].args.min_clients: the workflow needs 3 sites, the run has 2"


def test_a_sampling_of_names_waits_for_no_more_than_it_names() -> None:
    check(flow(min_clients=3, sampling={"names": ["site-1"]}))
    with pytest.raises(ConfigError, match="needs 3 sites"):
        check(flow(min_clients=3, sampling={"count": 1}))


@pytest.mark.parametrize(
    ("workflow", "given", "line"),
    [
        (flow(persistor_id="persister"), {}, r"args\.persistor_id: there is no component 'persister'; did you mean"),
        (flow(), {"parts": PARTS[1:]}, r"args\.aggregator_id: there is no component 'aggregator'$"),
        (flow(), {"disabled": "persistor"}, r"args\.persistor_id: there is no component 'persistor'$"),
        (flow(class_attributes={"min_clients": 9}), {}, r"args\.class_attributes\.min_clients: the workflow needs 9"),
    ],
)
def test_parts_that_are_not_there(workflow: dict[str, Any], given: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^f\.json: workflows\[0\]\.{line}"):
        check(workflow, **given)


def test_workflows_of_the_jobs_own_and_disabled_ones_are_left_alone() -> None:
    check(flow("mine.Flow", min_clients=9, aggregator_id="none"), {**flow(min_clients=9), "disabled": True})
