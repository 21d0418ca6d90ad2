"""What a component knows about where it is: the properties of the run, the task and the event at hand."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from hansa.apis.fl_constant import ReservedKey
from hansa.apis.signal import Signal

_logger = logging.getLogger("FLContext")

_STICKY = 1 << 0
_PRIVATE = 1 << 1
_ONLY_STR = frozenset((str,))

# One lock for all contexts, held for a few dict operations only: so a context stays plain data that can be copied and
# pickled, and a new one costs two dicts. Reading one property needs no lock: a look into a dict is atomic.
_lock = threading.Lock()


def _in_words(mask: int) -> str:
    return f"{'private' if mask & _PRIVATE else 'public'}, {'sticky' if mask & _STICKY else 'non-sticky'}"


class FLContext:
    """Properties by key.

    The first `set_prop` of a key decides two things about it for good:

    * *private* stays on this side; *public* goes with every message and is seen by the other side as its peer context;
    * *sticky* reaches the contexts that are made later in the run; *non-sticky* belongs to this context alone.

    Used with `with`, a context made by an `FLContextManager` hands its sticky properties back on exit.
    Safe to use from several threads.
    """

    MASK_STICKY = _STICKY
    MASK_PRIVATE = _PRIVATE

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._masks: dict[str, int] = {}
        # Only what this context changed goes back to the manager, so that a context that lives long (that of a
        # control flow) does not bring old values back over newer ones when it ends.
        self._changed: set[str] = set()

    def get_prop(self, key: str, default: Any = None) -> Any:  # Any: properties hold any object
        """The value of a property, or the default."""
        return self._values.get(key, default)

    def get_prop_detail(self, key: str) -> dict[str, Any] | None:
        """Value and nature of a property: `{"value", "private", "sticky"}`; None if there is none."""
        with _lock:
            return self._detail(key) if key in self._masks else None

    def get_all_details(self) -> dict[str, dict[str, Any]]:
        """Value and nature of every property, by key; each as `get_prop_detail` gives it and `set_prop` takes it."""
        with _lock:
            return {key: self._detail(key) for key in self._masks}

    def _detail(self, key: str) -> dict[str, Any]:
        mask = self._masks[key]
        return {"value": self._values[key], "private": bool(mask & _PRIVATE), "sticky": bool(mask & _STICKY)}

    def set_prop(self, key: str, value: Any, private: bool = True, sticky: bool = True) -> bool:
        """Set a property.

        Returns:
            True; or False, with a warning and the value unchanged, where the key has another nature already.

        Raises:
            ValueError: The key is no str.
        """
        if not isinstance(key, str):
            raise ValueError(f"the key of a property must be str, but got {type(key)}")  # FLARE's own
        mask = (_PRIVATE if private else 0) | (_STICKY if sticky else 0)
        with _lock:
            held = self._masks.setdefault(key, mask)
            if held == mask:
                self._values[key] = value
                if sticky:
                    self._changed.add(key)
                return True
        _logger.warning("property '%s' is %s and cannot become %s", key, _in_words(held), _in_words(mask))
        return False

    def remove_prop(self, key: str) -> None:
        """Forget a property; it may come back with another nature. Keys that begin with `__` stay."""
        if not isinstance(key, str) or key.startswith("__"):
            return
        with _lock:
            self._values.pop(key, None)
            self._masks.pop(key, None)
            self._changed.discard(key)

    def public_key_exists(self, key: str) -> bool:
        """Whether there is a public property of that key."""
        return not self._masks.get(key, _PRIVATE) & _PRIVATE

    def get_all_public_props(self) -> dict[str, Any]:
        """All public properties, as a new dict."""
        with _lock:
            return {key: self._values[key] for key, mask in self._masks.items() if not mask & _PRIVATE}

    def set_public_props(self, metadata: Mapping[str, Any]) -> None:
        """Replace all public properties; the new ones are sticky.

        Args:
            metadata: Values by key. A key that is a private property is left out with a warning.
        """
        if not self._masks and _ONLY_STR.issuperset(map(type, metadata)):  # a peer's context, new and empty
            with _lock:
                self._values.update(metadata)
                self._masks = dict.fromkeys(metadata, _STICKY)
                self._changed.update(metadata)
            return
        with _lock:
            for key in [key for key, mask in self._masks.items() if not mask & _PRIVATE]:
                del self._values[key], self._masks[key]
                self._changed.discard(key)
        for key, value in metadata.items():
            self.set_prop(key, value, private=False, sticky=True)

    def get_engine(self) -> Any:  # Any: a server's engine, a site's, or a test's own
        """What runs this side, or None."""
        return self._values.get(ReservedKey.ENGINE)

    def get_run_number(self) -> Any:  # Any: an int > 0, or None
        """The number of the run, or None."""
        return self._values.get(ReservedKey.RUN_NUM)

    def set_run_number(self, run_number: int) -> None:
        """Set the number of the run."""
        self.set_prop(ReservedKey.RUN_NUM, run_number, private=False, sticky=True)

    def get_identity_name(self) -> str:
        """Who we are: the site's name, on the server the project's; "" where nobody said."""
        name: str = self._values.get(ReservedKey.IDENTITY_NAME, "")
        return name

    def get_run_abort_signal(self) -> Signal | None:
        """The signal that ends the run, or None."""
        signal: Signal | None = self._values.get(ReservedKey.RUN_ABORT_SIGNAL)
        return signal

    def get_peer_context(self) -> FLContext | None:
        """The public properties of the other side, or None where there is no other side."""
        peer: FLContext | None = self._values.get(ReservedKey.PEER_CTX)
        return peer

    def set_peer_context(self, ctx: FLContext) -> None:
        """Set the public properties of the other side."""
        self.set_prop(ReservedKey.PEER_CTX, ctx, private=True, sticky=False)

    def clone_sticky(self) -> FLContext:
        """A new context with the sticky properties of this one, values not copied."""
        clone = FLContext()
        with _lock:
            clone._masks = {key: mask for key, mask in self._masks.items() if mask & _STICKY}
            clone._values = {key: self._values[key] for key in clone._masks}
        return clone

    def sync_sticky(self) -> None:
        """Hand the sticky properties to the manager now, not only at the end of the `with`.

        Raises:
            ValueError: No manager made this context.
        """
        manager = self._values.get(ReservedKey.MANAGER)
        if manager is None:
            raise ValueError("the context has no manager to hand its sticky properties to")
        manager.finalize_context(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._changed and ReservedKey.MANAGER in self._values:
            self.sync_sticky()

    def __repr__(self) -> str:
        with _lock:
            kinds = {key: type(value).__name__ for key, value in self._values.items()}
        return f"FLContext({', '.join(f'{key}: {kind}' for key, kind in kinds.items())})"


class FLContextManager:
    """Makes the contexts of one run and keeps what is sticky from one to the next.

    Args:
        engine: What runs this side; in each context as ENGINE.
        identity_name: Who we are; left out of the contexts if empty.
        run_num: The number of the run.
        public_stickers: Public sticky properties to begin with, or None.
        private_stickers: Private sticky properties to begin with, or None.
    """

    def __init__(
        self,
        engine: Any,  # Any: see FLContext.get_engine
        identity_name: str,
        run_num: int,
        public_stickers: Mapping[str, Any] | None,
        private_stickers: Mapping[str, Any] | None,
    ) -> None:
        self.engine = engine
        self.run_num = run_num
        # What a new context starts with, ready to be copied.
        first = FLContext()
        first.set_prop(ReservedKey.MANAGER, self, private=True, sticky=False)
        first.set_prop(ReservedKey.ENGINE, engine, private=True, sticky=True)
        first.set_prop(ReservedKey.RUN_NUM, run_num, private=False, sticky=True)
        if identity_name:
            first.set_prop(ReservedKey.IDENTITY_NAME, identity_name, private=False, sticky=True)
        self._permanent = frozenset(first._masks) | {ReservedKey.IDENTITY_NAME}
        for stickers, private in ((public_stickers, False), (private_stickers, True)):
            for key, value in (stickers or {}).items():
                if key not in self._permanent:
                    first.set_prop(key, value, private=private, sticky=True)
        self._values = first._values
        self._masks = first._masks

    @property
    def identity_name(self) -> str:
        """Who we are. May be assigned: contexts made from then on have the new name."""
        name: str = self._values.get(ReservedKey.IDENTITY_NAME, "")
        return name

    @identity_name.setter
    def identity_name(self, name: str) -> None:
        with _lock:
            self._values.pop(ReservedKey.IDENTITY_NAME, None)
            self._masks.pop(ReservedKey.IDENTITY_NAME, None)
            if name:
                self._values[ReservedKey.IDENTITY_NAME] = name
                self._masks[ReservedKey.IDENTITY_NAME] = _STICKY

    def new_context(self) -> FLContext:
        """A context with ENGINE, RUN_NUM, IDENTITY_NAME and all sticky properties."""
        ctx = FLContext()
        with _lock:
            ctx._values = self._values.copy()
            ctx._masks = self._masks.copy()
        return ctx

    def finalize_context(self, ctx: FLContext) -> None:
        """Take the sticky properties over that were set in a context, for contexts made from now on.

        A key that is sticky here with another nature keeps its value, with a warning: what was private must not
        become public by mistake. Manager, engine, run number and identity never change.
        """
        refused = []
        with _lock:
            for key in ctx._changed:
                if key in self._permanent:
                    continue
                if self._masks.setdefault(key, ctx._masks[key]) == ctx._masks[key]:
                    self._values[key] = ctx._values[key]
                else:
                    refused.append(key)
            ctx._changed.clear()
        for key in refused:
            _logger.warning("sticky property '%s' is public in one context and private in another; kept as it was", key)

    @property
    def public_stickers(self) -> dict[str, Any]:
        """The public sticky properties by key, without the permanent ones; a new dict."""
        return self._stickers(0)

    @property
    def private_stickers(self) -> dict[str, Any]:
        """The private sticky properties by key, without the permanent ones; a new dict."""
        return self._stickers(_PRIVATE)

    def _stickers(self, privacy: int) -> dict[str, Any]:
        with _lock:
            return {
                key: self._values[key]
                for key, mask in self._masks.items()
                if mask & _PRIVATE == privacy and key not in self._permanent
            }
