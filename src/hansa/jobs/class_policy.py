"""Which classes a job may name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hansa.jobs.place import Place
from hansa.jobs.plugins import classes_of, package_of

ANYTHING = "*"


@dataclass(frozen=True)
class ClassPolicy:
    """The classes that a job's config may name; everything else is refused.

    Args:
        allow: Modules and packages whose classes may be named; `("*",)` for whatever can be imported.
        custom: True where the job may bring code of its own in `custom/`.
        classes: Single classes, by their full paths, that may be named besides: those of admitted plug-ins.
    """

    allow: tuple[str, ...] = ("hansa.components", "hansa.demos")
    custom: bool = True
    classes: frozenset[str] = frozenset()

    @classmethod
    def simulator(cls) -> ClassPolicy:
        """The user's own machine: any class that can be imported, and the job's own code."""
        return cls(allow=(ANYTHING,))

    @classmethod
    def production(cls, *plugins: str) -> ClassPolicy:
        """A federation: what ships with Hansa, and what the named packages offer as plug-ins."""
        return cls(custom=False, classes=classes_of(plugins))

    def allows_everything(self) -> bool:
        """True where no class is refused."""
        return self.custom and ANYTHING in self.allow

    def check_module(self, module: str, custom: Collection[str], *, path: str, place: Place) -> None:
        """Refuse a class by the module it is in; asked before anything is imported.

        Args:
            module: The module's full name.
            custom: The top-level modules of the job's own code.
            path: The class, for the message.
            place: Where the config names it.

        Raises:
            ConfigError: The policy does not allow it.
        """
        if module.partition(".")[0] in custom:
            if not self.custom:
                raise place.error(f"{path} is the job's own code, which is not allowed here")
            return
        if ANYTHING in self.allow or path in self.classes:
            return
        if not any(module == name or module.startswith(f"{name}.") for name in self.allow):
            package = package_of(path)
            hint = "" if package is None else f"; it comes with the plug-in {package}, which is not admitted here"
            raise place.error(f"{path} is not allowed here (allowed: {', '.join(self.allow)}{hint})")

    def check_found(self, found: object, custom: Collection[str], *, path: str, place: Place) -> None:
        """Refuse what an allowed module merely imported from elsewhere, and what is no class.

        Raises:
            ConfigError: The policy does not allow it.
        """
        if self.allows_everything():
            return
        if not isinstance(found, type):
            raise place.error(f"{path} is not a class")
        self.check_module(found.__module__, custom, path=path, place=place)
