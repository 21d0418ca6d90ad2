"""What must hold of the scripts of a job before anything starts."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from hansa.errors import ConfigError
from hansa.jobs.classes import written_path
from hansa.jobs.place import Place
from hansa.runtime.site_factory import SiteApp

MOST_SCRIPTS = 64
"""Each site's script is a process of its own, with its libraries and its model in memory also while it waits."""

_EXECUTOR = "hansa.components.executors.script_executor.ScriptExecutor"


def check_scripts(apps: Mapping[str, SiteApp]) -> None:
    """Refuse scripts that are not there, and too many of them.

    Args:
        apps: The application of each site.

    Raises:
        ConfigError: There is no such script, or more sites than may have one.
    """
    number = 0
    for app in {id(app): app for app in apps.values()}.values():
        for index, entry in enumerate(app.config["executors"]):
            place = Place(app.config_file).at("executors", index, "executor")
            if not entry["executor"].get("disabled") and _is_script(entry["executor"], place):
                _check(app, entry["executor"].get("args", {}).get("script"), place)
                number += sum(1 for each in apps.values() if each is app)
                if number > MOST_SCRIPTS:
                    raise place.error(
                        f"{number} sites would each run a script in a process of its own, and {MOST_SCRIPTS} at most "
                        "may; write the training as an Executor or a Learner, of which a worker holds any number"
                    )


def _is_script(config: Mapping[str, object], place: Place) -> bool:
    try:
        return written_path(config, place) == _EXECUTOR
    except ConfigError:  # whoever builds it says so
        return False


def _check(app: SiteApp, script: object, place: Place) -> None:
    custom = app.folder / "custom"
    if not isinstance(script, str) or (custom / script).is_file():
        return
    there = sorted(path.relative_to(custom).as_posix() for path in custom.rglob("*.py"))
    near = difflib.get_close_matches(script, there, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise place.at("args", "script").error(f"there is no script {script!r} in the folder custom/ of the app{hint}")
