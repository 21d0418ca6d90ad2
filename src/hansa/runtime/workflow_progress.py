"""How far the workflows of a job are: taken at each commit, given back to them after a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hansa.apis.controller import Controller
from hansa.apis.engine import RoundKey, Stateful, port
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.apis.responder import Responder
from hansa.errors import DecodeError, EncodeError
from hansa.wire.codec import to_bytes

State = Mapping[str, Any]  # Any: whatever the codec can carry


@dataclass(frozen=True)
class Progress:
    """What is needed to go on from a commit.

    Attributes:
        version: The number of the model version, from 1; 0 before the first commit.
        workflow: The index of the workflow that committed.
        state: What it keeps.
        components: What the job's components keep, by id.
        postings: How many tasks of each name the workflow has posted.
        private: Private sticky properties that workflows and components have set.
        public: Public ones.
        randomness: The generators of the process, as `hansa.runtime.seeding.randomness` gives them.
    """

    version: int = 0
    workflow: int = 0
    state: State = field(default_factory=dict)
    components: Mapping[str, State] = field(default_factory=dict)
    postings: Mapping[str, int] = field(default_factory=dict)
    private: State = field(default_factory=dict)
    public: State = field(default_factory=dict)
    randomness: State = field(default_factory=dict)

    @classmethod
    def of(cls, value: object) -> Progress:
        """The progress that `vars` made a value of.

        Raises:
            DecodeError: It is something else.
        """
        try:
            if not isinstance(value, Mapping):
                raise TypeError("no mapping")
            return cls(**value)
        except TypeError as error:
            raise DecodeError(f"a commit that cannot be read: {error}") from error


KeepProgress = Callable[[Progress], None]


class ProgressKeeper:
    """Takes commits of the workflows of one run.

    Args:
        components: The job's, by id.
        manager: Has the sticky properties; those that are there now belong to the runtime, and are made anew.
        keep: Makes a commit durable; None: nobody does, and it is only found out whether that would be possible.
        begun: Where the run goes on.
    """

    def __init__(
        self,
        components: Mapping[str, object],
        manager: FLContextManager,
        *,
        keep: KeepProgress | None = None,
        begun: Progress = Progress(),
    ) -> None:
        self.version = begun.version
        self.on_restored: Callable[[], None] = lambda: None
        """Called when everybody has got back what was kept."""
        self._components = components
        self._manager = manager
        self._keep = keep
        self._begun = begun
        self._left_out = {*manager.private_stickers, *manager.public_stickers}
        self._checked: set[str] = set()  # sticky properties that can be encoded

    @property
    def first_workflow(self) -> int:
        """The index of the workflow to go on with."""
        return self._begun.workflow

    def commit(self, index: int, responder: Responder, *, state: State) -> int:
        """Keep the progress of a workflow; returns the number of the model version.

        Raises:
            EncodeError: What it keeps, or a component, cannot be encoded.
        """
        parts = ((name, port(part, Stateful)) for name, part in self._components.items())
        states = {name: part.state() for name, part in parts if part is not None}
        progress = Progress(self.version + 1, index, dict(state), states, dict(getattr(responder, "postings", {})))
        if self._keep is None:
            to_bytes(vars(progress))  # what cannot be encoded is found here, and not on a federation
        else:
            self._keep_all(progress, self._keep)
        self.version += 1
        return self.version

    def _keep_all(self, progress: Progress, keep: KeepProgress) -> None:
        manager = self._manager
        for is_last in (False, True):
            private, public = self._sticky(manager.private_stickers), self._sticky(manager.public_stickers)
            try:
                keep(replace(progress, private=private, public=public))
            except EncodeError:
                if is_last:
                    raise
                self._checked.clear()  # a property that could be encoded once may hold something else now
            else:
                return

    def _sticky(self, properties: State) -> dict[str, Any]:
        for key in properties.keys() - self._left_out - self._checked:
            try:
                to_bytes(properties[key])
            except EncodeError:
                self._left_out.add(key)
            else:
                self._checked.add(key)
        return {key: value for key, value in properties.items() if key not in self._left_out}

    # -- after a restart ---------------------------------------------------------------------------------------

    def bring_back(self, index: int, *, fl_ctx: FLContext) -> None:
        """Let a workflow that goes on find what those before it have left, when it starts."""
        begun = self._begun
        if not begun.version or index != begun.workflow:
            return
        for is_private, properties in ((True, begun.private), (False, begun.public)):
            for key, value in properties.items():
                fl_ctx.set_prop(key, value, private=is_private, sticky=True)
        fl_ctx.set_prop(RoundKey.MODEL_VERSION, begun.version, private=True, sticky=True)  # set once it was kept
        fl_ctx.sync_sticky()

    def restore_workflow(self, index: int, responder: Responder, *, fl_ctx: FLContext) -> None:
        """Give the workflow that committed back what it and the components kept; any other begins anew.

        A workflow that never committed is not told: it posts the same tasks again, and gets the results that are there.
        """
        begun = self._begun
        if not begun.version or index != begun.workflow:
            return
        self.bring_back(index, fl_ctx=fl_ctx)  # once more: starting has put first things in their place
        for name, state in begun.components.items():
            part = port(self._components.get(name), Stateful)
            if part is not None:
                part.restore(state)
        if isinstance(responder, Controller):
            responder.postings.update(begun.postings)
        restore = getattr(responder, "restore", None)
        if restore is not None:
            restore(begun.state)
        self.on_restored()
