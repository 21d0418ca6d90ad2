"""Filters: what happens to a message between the one who made it and the one who reads it."""

from hansa.components.filters.exclude_vars import ExcludeVars
from hansa.components.filters.percentile_privacy import PercentilePrivacy
from hansa.components.filters.svt_privacy import SVTPrivacy

__all__ = ["ExcludeVars", "PercentilePrivacy", "SVTPrivacy"]
