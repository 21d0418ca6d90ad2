"""Making the sites of one process from what a job says of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.apis.folding import FoldPlan, FoldsAtSource, SourceFold
from hansa.errors import RunError
from hansa.jobs.build import Builder, ClientApp
from hansa.runtime.participants import Place, RunParts, keeps_nothing, make_site
from hansa.runtime.phases import Phases
from hansa.runtime.site_side import SiteSettings, SiteSide
from hansa.runtime.user_code import OnFailure
from hansa.wire.blobs import Allocate


@dataclass(frozen=True)
class SiteApp:
    """The application of some sites.

    Attributes:
        folder: Its files as a site gets them.
        config: The sites' config, checked, variables filled in.
        config_file: How errors name that config.
        linked: Whether sites get links to the files instead of copies: there are too many for those.
        from_folder: Whether it comes from a job folder: then, in a process that is nobody else's, a site's working
            directory is its workspace, as in FLARE. What a program defines keeps the program's.
    """

    folder: Path
    config: Mapping[str, Any]  # Any: JSON
    config_file: str
    linked: bool = False
    from_folder: bool = False


class SiteFactory:
    """Makes sites; those whose every part keeps nothing between tasks share the parts.

    Args:
        app_of: The application of a site.
        place_of: Where a site has its folder.
        seed: The job's seed.
        shared: What all sites of the process share.
        allocate: Where executors' own arrays lie.
        told: Who is told of failures of user code, and where the time of each phase is added up.
    """

    def __init__(
        self,
        app_of: Callable[[str], SiteApp],
        place_of: Callable[[str], Place],
        *,
        seed: int,
        shared: RunParts,
        allocate: Allocate,
        told: tuple[OnFailure, Phases],
    ) -> None:
        self._app_of = app_of
        self._place_of = place_of
        self._deployed: set[str] = set()
        self._seed = seed
        self._shared = shared
        self._allocate = allocate
        self._on_failure, self._phases = told
        self._for_many: dict[int, ClientApp] = {}

    def make(self, name: str, spare: SiteSide | None = None) -> SiteSide:
        """A site with its workspace.

        Args:
            name: The site.
            spare: The object of another site that keeps nothing; it is used if the application is the same, else
                closed.

        Raises:
            ConfigError: Its components cannot be built.
        """
        spec = self._app_of(name)
        if name not in self._deployed:
            deploy(spec, self._place_of(name).app_folder)
            self._deployed.add(name)
        if spare is not None:
            if self._app_of(spare.name) is spec:
                spare.serve(name)
                return spare
            spare.close()
        parts = self._for_many.get(id(spec))
        if parts is None:
            parts = self._shared.builder.client(spec.config, spec.config_file)
            if keeps_nothing(parts):
                self._for_many[id(spec)] = parts
        settings = SiteSettings(
            name,
            self._seed,
            self._on_failure,
            self._phases,
            allocate=self._allocate,
            keeps_nothing=id(spec) in self._for_many,
        )
        return make_site(settings, parts, self._place_of, shared=self._shared)


class FoldRules:
    """Opens folds by the rules that plans name; each rule is built once.

    Args:
        builder: Builds them.
    """

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._rules: dict[tuple[str, str], object] = {}

    def open(self, plan: FoldPlan, held: Sequence[str], *, allocate: Allocate) -> SourceFold:
        """The fold of one round.

        Raises:
            RunError: The rule's class cannot fold here.
        """
        args = dict(plan.rule.args)
        key = (plan.rule.path, json.dumps(args, sort_keys=True))
        rule = self._rules.get(key)
        if rule is None:
            rule = self._rules[key] = self._builder.component({"path": plan.rule.path, "args": args})
        if not isinstance(rule, FoldsAtSource):
            raise RunError(f"{plan.rule.path} cannot fold results where they come from")
        return rule.source_fold(plan, held, allocate=allocate)


def deploy(app: SiteApp, target: Path) -> None:
    """Give a site its application's files, once.

    Args:
        app: The application.
        target: The site's APP_ROOT.
    """
    if target.exists():  # by a process that is gone
        return
    staging = target.with_name(f".{target.name}")
    shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed over it
    if app.linked:
        staging.mkdir(parents=True)
        for entry in app.folder.iterdir():
            (staging / entry.name).symlink_to(entry)
    else:
        shutil.copytree(app.folder, staging)
    staging.rename(target)
