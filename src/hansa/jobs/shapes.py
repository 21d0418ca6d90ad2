"""The shapes of a job's files, as pydantic models: which keys there are and of which type.

Loaded only to check what others wrote (`config.check_shape`, `config.check_meta`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """No unknown keys, and no conversion: a text is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ComponentShape(Strict):
    """A part of a job: a class and its arguments."""

    id: str = ""
    path: str = ""
    name: str = ""
    args: dict[str, Any] = {}  # Any: constructors take what they take
    disabled: bool = False


class ExecutorShape(Strict):
    """Which executor does which tasks."""

    tasks: list[str] = Field(min_length=1)
    executor: ComponentShape


class ChainShape(Strict):
    """Which filters a task's data or results go through."""

    tasks: list[str] = Field(min_length=1)
    filters: list[ComponentShape] = Field(min_length=1)


class SettingsShape(Strict):
    """Limits of the server."""

    heart_beat_timeout: float = Field(default=60, gt=0)
    task_request_interval: float = Field(default=2, ge=1)


class SideShape(BaseModel):
    """What both files have; other top-level numbers, texts and booleans are variables."""

    model_config = ConfigDict(extra="allow", strict=True)

    format_version: Literal[2]
    handlers: Any = None  # Any: ignored, whatever old samples hold there
    components: list[ComponentShape] = []
    task_data_filters: list[ChainShape] = []
    task_result_filters: list[ChainShape] = []


class ServerShape(SideShape):
    """`config_fed_server.json`."""

    server: SettingsShape = SettingsShape()
    workflows: list[ComponentShape] = Field(min_length=1)


class ClientShape(SideShape):
    """`config_fed_client.json`."""

    executors: list[ExecutorShape] = Field(min_length=1)


class ResourcesShape(Strict):
    """What a job takes of each site."""

    gpus: int = Field(default=0, ge=0)
    memory_mb: float = Field(default=0, ge=0, allow_inf_nan=False)
    cpus: float = Field(default=0, ge=0, allow_inf_nan=False)


class MetaShape(Strict):
    """`meta.json`; `resource_spec` is kept and not read yet."""

    hansa_job: Literal[1] = 1
    name: str = Field(default="", min_length=1)
    deploy_map: dict[str, list[str]] = {}
    min_clients: int = Field(default=1, ge=1)
    mandatory_clients: list[str] = []
    site_tags: dict[str, list[str]] = {}
    threads_per_site: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    sites: list[str] = Field(default=[], min_length=1)
    tags: list[str] = []
    resources: ResourcesShape = ResourcesShape()
    priority: int = Field(default=0, ge=-100, le=100)
    start_deadline_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    start_timeout_s: float = Field(default=60, gt=0, allow_inf_nan=False)
    quorum_wait_s: float = Field(default=600, gt=0, allow_inf_nan=False)
    keep_rounds: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    resource_spec: dict[str, Any] = {}  # Any: a launcher's own words


SECTIONS: dict[str, type[Strict]] = {
    "components": ComponentShape,
    "workflows": ComponentShape,
    "filters": ComponentShape,
    "executor": ComponentShape,
    "executors": ExecutorShape,
    "task_data_filters": ChainShape,
    "task_result_filters": ChainShape,
    "server": SettingsShape,
    "resources": ResourcesShape,
}
"""The shape of what stands under a key, or in the list there."""
