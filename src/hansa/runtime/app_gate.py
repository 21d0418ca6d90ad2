"""A machine's own check of the apps that jobs bring: FLARE's `AppValidator`, named in its settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hansa.apis.app_validation import AppValidator
from hansa.errors import ConfigError
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.classes import ClassFinder
from hansa.jobs.place import Place
from hansa.jobs.user_code import user_code
from hansa.wire.refusals import printable


class AppGate:
    """Asks the owner's validator, if there is one, before an app is kept or started.

    The validator is the code of the machine's owner, not of a job; it runs in the server's or the site's own program,
    on a thread beside its event loop.

    Args:
        path: The validator's class as `module.Class`, without arguments; None: every app is let in.

    Raises:
        ConfigError: There is no such class, or it is no `AppValidator`.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._validator: AppValidator | None = None
        if path is not None:
            place = Place(key="app_validator")
            found = ClassFinder(ClassPolicy.simulator()).find({"path": path}, Place())
            with user_code(f"cannot build {path}", place):
                made = found()
            if not isinstance(made, AppValidator):
                raise place.error(f"{path} is no AppValidator")
            self._validator = made

    def check(self, folders: Iterable[Path]) -> None:
        """Look at apps; blocking.

        Args:
            folders: Where they lie, each with its `config`.

        Raises:
            ConfigError: The validator refuses one, or fails.
        """
        if self._validator is None:
            return
        for folder in folders:
            with user_code(f"{self._path} failed", Place(file=folder.name)):
                answer = self._validator.validate(str(folder))
                problem = answer[0] if isinstance(answer, tuple) and answer else answer
            if problem:
                raise ConfigError(f"the app is refused here: {printable(str(problem))}", file=folder.name)
