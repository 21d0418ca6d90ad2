"""Filters: what happens to a message between the one who made it and the one who reads it."""

from hansa.components.filters.exclude_vars import ExcludeVars

__all__ = ["ExcludeVars"]
