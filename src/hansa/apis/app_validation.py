"""A site's or server's own check of the apps it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class AppValidationKey:
    """What the facts say that a validator finds out about an app."""

    BYOC = "byoc"  # bool: it brings code of its own
    CUSTOM_DATA_LIST = "custom_datalist"  # bool: it brings data lists of its own


class AppValidator(ABC):
    """Looks at an app before it is deployed."""

    @abstractmethod
    def validate(self, app_folder: str) -> tuple[str, dict[str, Any]]:
        """Check an app.

        Args:
            app_folder: Path of the app.

        Returns:
            What is wrong with it, in words, empty if nothing is; and facts about it by `AppValidationKey`.
        """
