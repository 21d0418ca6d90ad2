"""Folding terms in a fixed tree, so that the order in which they arrive leaves no trace in the bits of the sum."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from hansa.errors import RuleError

T = TypeVar("T")

MAX_BLOCKS = 64
"""Up to so many targets each is a block of its own; more are gathered into at most so many blocks."""

ENOUGH = 32
"""A node over so many targets is passed on by whoever holds it, although it could climb further, so that who takes it
is not idle until all are done; of many targets, a node over a sixteenth of them."""

Span = tuple[int, int]
"""A node of the tree: the blocks `start` to `stop`, `stop` excluded."""


def block_size(num_targets: int) -> int:
    """How many targets form a block: one, or ceil(n / 64) where there are more than 64."""
    return max(1, -(-num_targets // MAX_BLOCKS))


class Place(NamedTuple):
    """Where a node stands in the tree."""

    parent: Span
    sibling: Span
    is_left: bool


@lru_cache(maxsize=128)
def tree(num_blocks: int) -> dict[Span, Place]:
    """The binary tree over a number of blocks; the root has no entry.

    A node over n > 1 blocks splits into the first k and the others, k being the largest power of two below n.
    """
    places: dict[Span, Place] = {}
    open_nodes: list[Span] = [(0, num_blocks)]
    while open_nodes:
        start, stop = node = open_nodes.pop()
        if stop - start < 2:
            continue
        middle = _middle(start, stop)
        left, right = (start, middle), (middle, stop)
        places[left] = Place(node, right, is_left=True)
        places[right] = Place(node, left, is_left=False)
        open_nodes += (left, right)
    return places


class Node(NamedTuple, Generic[T]):
    """A complete node, for a fold elsewhere that has the same targets."""

    span: Span
    counted: dict[str, bool]
    """By target in it, whether the target brought a term."""
    term: T | None
    """None if no target brought one."""


def outlets_of(targets: Iterable[str], held: Collection[str], *, enough: int | None = None) -> set[Span]:
    """The nodes at which whoever holds some of the targets passes sums on to where all come together.

    They are the largest nodes whose targets are all held, and below those the ones that cover at least `enough`
    targets (`ENOUGH`, or a sixteenth of all, unless given), so that the other side has something to do meanwhile. Each
    block that is wholly held lies in exactly one.
    """
    sites = sorted(set(targets))
    enough = max(ENOUGH, len(sites) // 16) if enough is None else enough
    size = block_size(len(sites))
    mine = set(held)
    blocks = [mine.issuperset(sites[start : start + size]) for start in range(0, len(sites), size)]
    found: set[Span] = set()
    open_nodes: list[Span] = [(0, len(blocks))] if blocks else []
    while open_nodes:
        start, stop = open_nodes.pop()
        if stop - start > 1:
            middle = _middle(start, stop)
            if not all(blocks[start:stop]) or (middle - start) * size >= enough:
                open_nodes += ((start, middle), (middle, stop))
                continue
        if blocks[start]:
            found.add((start, stop))
    return found


def _middle(start: int, stop: int) -> int:
    return start + (1 << ((stop - start - 1).bit_length() - 1))


class Fold(Generic[T]):
    """Combines the terms of a round's sites in an order that depends on the targets alone.

    The targets, sorted by code point, are cut into blocks (`block_size`). A block is folded from left to right, the
    blocks in a binary tree (`tree`). Sites that stay absent are skipped; the first term is taken as it is, never added
    to a zero. Terms of sites that are no targets follow at the end, one by one, in code point order. Without any target
    the tree stands over the sites that came.

    Terms may come in any order. Two neighbours are merged as soon as both are complete, so terms that come in the
    tree's own order keep at most 1 + log2(blocks) of them alive; in the worst order all of them.

    Args:
        targets: The sites that are expected; duplicates count once.
        combine: `combine(left, right)` returns their combination; it may work in the left term's memory, and
            neither term is used again by the fold. It must not fail for terms that were let in.
        outlets: Nodes that leave this fold through `take_ready` when they are complete; see `outlets_of`.
    """

    def __init__(
        self, targets: Iterable[str], combine: Callable[[T, T], T], *, outlets: Collection[Span] = frozenset()
    ) -> None:
        self._combine = combine
        self._sites = sorted(set(targets))
        self._positions = {site: position for position, site in enumerate(self._sites)}
        self._block_size = block_size(len(self._sites))
        num_blocks = -(-len(self._sites) // self._block_size)
        self._tree = tree(num_blocks)
        self._seen: dict[str, bool] = {}  # site -> it brought a term
        self._next = [block * self._block_size for block in range(num_blocks)]
        self._waiting: dict[int, T | None] = {}  # position -> term that is ahead of its block's next one
        self._sums: dict[int, T | None] = {}  # block -> what is folded of it
        self._complete: dict[Span, T | None] = {}  # nodes whose sibling is not complete
        self._outlets = outlets
        self._ready: list[Node[T]] = []
        self._outside: dict[str, T] = {}
        self._root: T | None = None
        self._held = 0
        self._finished = False

    @property
    def held(self) -> int:
        """How many terms are alive at present: folded, half folded or waiting for their turn."""
        return self._held

    @property
    def participants(self) -> list[str]:
        """The sites that brought a term, in the order of the fold."""
        inside = [site for site in self._sites if self._seen.get(site)]
        return inside + sorted(self._outside)

    def add(self, site: str, term: T) -> None:
        """Take a site's term.

        Raises:
            RuleError: The site brought a term before, was marked absent, or the fold is finished.
        """
        self._refuse_late(site)
        if site in self._seen:
            raise RuleError("contributes twice" if self._seen[site] else "was marked absent", site=site)
        self._seen[site] = True
        self._held += 1
        position = self._positions.get(site)
        if position is None:
            self._outside[site] = term
        else:
            self._settle(position, term)

    def add_node(self, node: Node[T]) -> None:
        """Take a node that another fold with these targets completed.

        Raises:
            RuleError: It is no node of this tree or has other targets than that, a site in it brought a term before or
                was marked absent and has one now, or the fold is finished. Nothing is changed then.
        """
        self._check_node(node)
        news = {site: has for site, has in node.counted.items() if site not in self._seen}
        if not news:
            return  # all are known to be absent
        self._seen.update(news)
        self._held += node.term is not None
        # What its blocks knew of absent sites stays behind: all their sites are settled, so nobody asks for it again.
        self._climb(node.span, node.term)

    def take_ready(self) -> list[Node[T]]:
        """The nodes that came to an outlet since this was last called."""
        ready, self._ready = self._ready, []
        return ready

    def has_seen(self, site: str) -> bool | None:
        """Whether the site brought a term; None where that is open."""
        return self._seen.get(site)

    def mark_absent(self, site: str) -> None:
        """Do not wait for this site; a second time, and for a site that is no target, this does nothing.

        Raises:
            RuleError: The site brought a term, or the fold is finished.
        """
        self._refuse_late(site)
        if self._seen.get(site):
            raise RuleError("cannot be marked absent, its contribution is in the sum", site=site)
        position = self._positions.get(site)
        if position is not None and site not in self._seen:
            self._seen[site] = False
            self._settle(position, None)

    def finish(self) -> T | None:
        """The combination of all terms, sites that did not come being absent; None if nobody came."""
        if self._finished:
            return self._root
        for site in self._sites:
            if site not in self._seen:
                self.mark_absent(site)
        self._finished = True
        if self._sites:
            for site in sorted(self._outside):
                self._root = self._merge(self._root, self._outside[site])
        elif self._outside:
            whole = Fold(self._outside, self._combine)
            for site in sorted(self._outside):
                whole.add(site, self._outside[site])
            self._root = whole.finish()
            self._held = whole.held
        return self._root

    def _check_node(self, node: Node[T]) -> None:
        (start, stop), counted, term = node
        if node.span not in self._tree and node.span != (0, len(self._next)):
            raise RuleError(f"blocks {start} to {stop} are no node of this round's tree")
        if len(counted) != len(self._targets_in(start, stop)) or (term is not None) != any(counted.values()):
            raise RuleError(f"blocks {start} to {stop} have other targets here")
        for position in self._targets_in(start, stop):
            site = self._sites[position]
            self._refuse_late(site)
            has = counted.get(site)
            if has is None:
                raise RuleError(f"is missing in blocks {start} to {stop}", site=site)
            seen = self._seen.get(site)
            if seen or (has and seen is not None):
                raise RuleError("contributes twice" if seen else "was marked absent", site=site)

    def _targets_in(self, start: int, stop: int) -> range:
        """The positions of the sites in some blocks."""
        return range(start * self._block_size, self._stop_of(stop - 1))

    def _stop_of(self, block: int) -> int:
        return min((block + 1) * self._block_size, len(self._sites))

    def _refuse_late(self, site: str) -> None:
        if self._finished:
            raise RuleError("comes after the fold was finished", site=site)

    def _settle(self, position: int, term: T | None) -> None:
        """What is known about one position moves its block on, as far as the block's next positions are known."""
        block = position // self._block_size
        self._waiting[position] = term
        stop = self._stop_of(block)
        following = self._next[block]
        while following < stop and following in self._waiting:
            self._sums[block] = self._merge(self._sums.get(block), self._waiting.pop(following))
            following += 1
        self._next[block] = following
        if following == stop:
            self._climb((block, block + 1), self._sums.pop(block))

    def _climb(self, node: Span, value: T | None) -> None:
        """A node is complete: merge it with its sibling if that is complete too, and so on towards the root."""
        while (place := self._tree.get(node)) is not None and node not in self._outlets:
            if place.sibling not in self._complete:
                self._complete[node] = value
                return
            other = self._complete.pop(place.sibling)
            value = self._merge(value, other) if place.is_left else self._merge(other, value)
            node = place.parent
        if node in self._outlets:
            counted = {self._sites[position]: self._seen[self._sites[position]] for position in self._targets_in(*node)}
            self._ready.append(Node(node, counted, value))
            self._held -= value is not None
        else:
            self._root = value

    def _merge(self, left: T | None, right: T | None) -> T | None:
        if left is None or right is None:
            return right if left is None else left
        self._held -= 1
        return self._combine(left, right)
