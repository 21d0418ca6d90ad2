"""From config to objects: nesting, order of handlers, filters, policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hansa.apis.fl_component import FLComponent
from hansa.errors import ConfigError, MissingExtra
from hansa.jobs.build import Builder, ClientApp, ServerApp
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode
from hansa.jobs.job import Job
from hansa.jobs.place import Place


def server_of(folder: Path, num_sites: int = 2) -> ServerApp:
    app = Job.load(folder).server_app
    with CustomCode(folder / "custom") as code:
        builder = Builder(ClassPolicy.simulator(), custom=code.modules)
        return builder.server(app.config(Side.SERVER, num_sites=num_sites), app.config_file(Side.SERVER))


def clients_of(folder: Path, count: int = 1) -> list[ClientApp]:
    app = Job.load(folder).server_app
    with CustomCode(folder / "custom") as code:
        builder = Builder(ClassPolicy.simulator(), custom=code.modules)
        config = app.config(Side.CLIENT, num_sites=count)
        return [builder.client(config) for _ in range(count)]


def listener(label: str, **more: Any) -> dict[str, Any]:
    return {"id": label, "path": "parts.Listener", "args": {"label": label, **more}}


def test_a_server_gets_workflows_components_and_settings(make_app: Any) -> None:
    folder = make_app(
        {
            "server": {"heart_beat_timeout": 7.5},
            "num_rounds": 3,
            "workflows": [
                {"path": "parts.Flow", "args": {"num_rounds": "{num_rounds}", "min_clients": "{num_sites}"}},
                {"id": "second", "path": "parts.Flow"},
                {"path": "not.There", "disabled": True},
            ],
            "components": [{"id": "net", "path": "parts.Net"}, {"id": "off", "path": "not.There", "disabled": True}],
        }
    )
    app = server_of(folder, num_sites=6)
    assert [name for name, _ in app.workflows] == ["Flow", "second"]
    first: Any = app.workflows[0][1]
    assert (first.num_rounds, first.min_clients) == (3, 6)
    assert list(app.components) == ["net"]
    assert (app.settings.heart_beat_timeout, app.settings.task_request_interval) == (7.5, 2)


def test_handlers_come_in_the_order_of_the_file_nested_ones_first_each_once(make_app: Any) -> None:
    # The file lists filters before components before workflows. Two Listeners stay two, although FLARE 2.0 keeps one
    # handler per class name. Net is no FLComponent and hears nothing, but the Listener inside it does.
    folder = make_app(
        '{"format_version": 2,'
        '"task_result_filters": [{"tasks": ["train", "validate"], "filters": ['
        '  {"path": "parts.Clip", "args": {"limit": 1}}, {"path": "parts.Clip", "args": {"limit": 2}}]}],'
        '"components": ['
        '  {"id": "a", "path": "parts.Listener", "args": {"label": "outer", "inner":'
        '     {"path": "parts.Listener", "args": {"label": "middle", "inner":'
        '        {"path": "parts.Listener", "args": {"label": "innermost"}}}}}},'
        '  {"id": "b", "path": "parts.Net", "args": {"inner": {"path": "parts.Listener", "args": {"label": "held"}}}},'
        '  {"id": "c", "path": "parts.Listener", "args": {"label": "last"}}],'
        '"workflows": [{"path": "parts.Flow"}]}'
    )
    app = server_of(folder)
    heard = [getattr(handler, "label", None) or getattr(handler, "limit", "flow") for handler in app.handlers]
    assert heard == [1, 2, "innermost", "middle", "outer", "held", "last", "flow"]


def test_two_filters_of_one_class_keep_their_arguments_and_order(make_app: Any) -> None:
    clips = [{"path": "parts.Clip", "args": {"limit": limit}} for limit in (5, 3)]
    folder = make_app(client={"task_result_filters": [{"tasks": ["train"], "filters": clips}]})
    (app,) = clients_of(folder)
    chain: list[Any] = app.task_result_filters["train"]
    assert [clip.limit for clip in chain] == [5, 3]
    assert app.task_data_filters == {}


def test_every_site_gets_objects_and_containers_of_its_own(make_app: Any) -> None:
    trainer = {"path": "parts.Trainer", "args": {"tags": [1], "model": {"path": "parts.Net"}}}
    folder = make_app(client={"executors": [{"tasks": ["train", "validate"], "executor": trainer}]})
    apps = clients_of(folder, count=2)
    one, two = (app.executors for app in apps)
    first: Any = one["train"]
    second: Any = two["train"]
    assert first is one["validate"]
    assert first is not second
    first.tags.append(2)
    assert second.tags == [1]
    assert first.model is not second.model


@pytest.mark.parametrize(
    "stays",
    [
        {"name": "adam"},  # a bare name that nothing is called
        {"path": "/data/digits"},  # a path on a disk
        {"path": "data.csv"},  # looks like module.Class, but leads nowhere and has no args
        {"path": "parts.Net", "split": 3},  # a key that no component has
        {"path": "parts.Net", "args": [1]},
        {"path": "parts.Optimizer", "args": {"lr": 0.3}},  # wants `params`, which only its owner knows
        {"a": {"path": "parts.Net"}},  # a dict inside a dict is data, as in FLARE
        [{"path": "parts.Net"}],
    ],
)
def test_a_dict_that_only_looks_like_a_component_stays_a_dict(make_app: Any, stays: object) -> None:
    app = server_of(make_app({"components": [listener("x", inner=stays)]}))
    part: Any = app.components["x"]
    assert part.inner == stays


def test_a_nested_component_may_be_disabled_and_class_attributes_replace_args(make_app: Any) -> None:
    nested = {"path": "parts.Net", "args": {"class_attributes": {"width": 9}}}
    app = server_of(
        make_app(
            {
                "components": [
                    listener("x", inner=nested),
                    listener("y", inner={"path": "parts.Net", "disabled": True}),
                    {"id": "z", "path": "parts.make_net", "args": {"width": 2}},
                ]
            }
        )
    )
    parts: Any = app.components
    assert parts["x"].inner.width == 9
    assert parts["y"].inner is None
    assert parts["z"].width == 2  # a function that makes an object will do where any object will


def test_old_paths_and_bare_names_lead_to_hansa() -> None:
    builder = Builder(ClassPolicy.simulator())
    old: Any = builder.component({"path": "nvflare.apis.client.Client", "args": {"name": "site-1", "token": ""}})
    bare: Any = builder.component({"name": "Client", "args": {"name": "site-2", "token": ""}})
    assert type(old).__module__ == type(bare).__module__ == "hansa.apis.client"
    assert (old.name, bare.name) == ("site-1", "site-2")


def test_a_class_of_the_program_itself_needs_no_import() -> None:
    class Here(FLComponent):
        pass

    builder = Builder(ClassPolicy.simulator(), known={"somewhere.<locals>.Here": Here})
    assert isinstance(builder.component({"path": "somewhere.<locals>.Here"}), Here)


def test_production_refuses_what_an_allowed_module_only_imported() -> None:
    # `hansa.jobs.classes` stands for any allowed module: it imports `importlib`'s and `inspect`'s things for itself.
    policy = ClassPolicy(allow=("hansa.jobs.classes",), custom=False)
    builder = Builder(policy)
    with pytest.raises(ConfigError, match="not allowed here"):
        builder.component({"path": "hansa.jobs.classes.ClassPolicy"})
    with pytest.raises(ConfigError, match="is not a class"):
        builder.component({"path": "hansa.jobs.classes.check_arguments"})


def test_a_constructor_that_finds_its_own_config_error_keeps_the_argument() -> None:
    class Picky:
        def __init__(self, rate: float) -> None:
            raise ConfigError("must be above 0", key="rate")

    class Heavy:
        def __init__(self) -> None:
            raise MissingExtra("Heavy", extra="torch")

    builder = Builder(ClassPolicy.simulator(), known={"x.Picky": Picky, "x.Heavy": Heavy})
    with pytest.raises(ConfigError) as caught:
        builder.component({"path": "x.Picky", "args": {"rate": -1}}, Place("f.json", "components[0]"))
    assert str(caught.value) == "f.json: components[0].args.rate: cannot build Picky: must be above 0"
    with pytest.raises(ConfigError, match=r"pip install 'hansa\[torch\]'"):
        builder.component({"path": "x.Heavy"}, Place("f.json", "components[0]"))


def test_control_c_in_a_constructor_is_the_users() -> None:
    class Slow:
        def __init__(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Builder(ClassPolicy.simulator(), known={"x.Slow": Slow}).component({"path": "x.Slow"})
