"""What a site lets out of its statistics; the site's own word, which no job can change."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hansa.errors import ConfigError

FILE = "local/statistics.json"
DEFAULT_FLOOR = 10
_NOISE = (0.1, 0.3)


class Draws(Protocol):
    """Where the noise comes from."""

    def uniform(self, a: float, b: float) -> float:
        """A number from a to b."""
        ...


@dataclass(frozen=True)
class StatisticsPolicy:
    """A site's rules for statistics.

    A job may ask for a higher floor, never for a lower one.

    Attributes:
        min_count: Groups and cells of fewer subjects are not told; >= 1.
        noise: The range of a feature is told wider than it is, at either end by a share of it drawn from these two
            bounds; 0 <= first <= second.
        noise_seed: Makes the draws repeatable, for tests; None: drawn by the system's secure generator. Who knows the
            seed knows the true range.
    """

    min_count: int = DEFAULT_FLOOR
    noise: tuple[float, float] = _NOISE
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        whole = (self.min_count,) if self.noise_seed is None else (self.min_count, self.noise_seed)
        if any(isinstance(value, bool) or not isinstance(value, int) for value in whole) or self.min_count < 1:
            raise ValueError("min_count must be a whole number of at least 1, noise_seed a whole number")
        is_pair = isinstance(self.noise, tuple) and len(self.noise) == 2
        if not is_pair or not all(type(end) in (int, float) for end in self.noise):
            raise ValueError("noise must be two numbers such as [0.1, 0.3]")
        if not 0 <= self.noise[0] <= self.noise[1] <= 100:
            raise ValueError("noise must be two numbers, 0 <= first <= second <= 100")

    @classmethod
    def of_site(cls, root: Path) -> StatisticsPolicy:
        """The rules of the site with this workspace: `local/statistics.json` in it; where there is none, the defaults.

        Raises:
            ConfigError: The file has a mistake; then nothing is told.
        """
        file = root / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot be read: {error}", file=str(file)) from None
        if not isinstance(content, dict):
            raise ConfigError('must be an object, as in {"min_count": 20}', file=str(file))
        for key in content:
            if key not in cls.__dataclass_fields__:
                raise ConfigError(
                    f"there is no such key; there are {', '.join(cls.__dataclass_fields__)}", file=str(file), key=key
                )
        if isinstance(content.get("noise"), list):
            content["noise"] = tuple(content["noise"])
        try:
            return cls(**content)
        except ValueError as error:
            raise ConfigError(str(error), file=str(file)) from None

    def floor(self, asked: object) -> int:
        """The floor that counts: the site's, or what the job asks for if that is more."""
        return max(self.min_count, asked) if isinstance(asked, int) else self.min_count

    def draws(self, site: str) -> Draws:
        """What the noise of one task is drawn from."""
        return random.SystemRandom() if self.noise_seed is None else random.Random(f"{self.noise_seed}/{site}")

    def widened(self, low: float, high: float, *, draws: Draws) -> tuple[float, float]:
        """The ends of a range, each moved outwards by what is drawn; a single point counts as wide as its value."""
        width = (high - low) or abs(high) or 1.0
        return low - width * draws.uniform(*self.noise), high + width * draws.uniform(*self.noise)
