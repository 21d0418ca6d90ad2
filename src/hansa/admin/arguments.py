"""The arguments of each command, as pydantic models: which there are, of which type, within which limits."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_JOB = Field(
    min_length=1, max_length=200, description="A job's id, the beginning of it, its number or name, or 'last'."
)


class Arguments(BaseModel):
    """No unknown arguments, and no conversion: a text is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Nothing(Arguments):
    """A command without arguments."""


class SubmitArguments(Arguments):
    """See the command `submit`."""

    blob: str = Field(min_length=1, max_length=200, description="The name under which the job's archive was uploaded.")


class JobArguments(Arguments):
    """A command about one job."""

    job: str = _JOB


class ResubmitArguments(Arguments):
    """See the command `resubmit`."""

    job: str = _JOB
    from_round: int | None = Field(
        default=None, ge=0, description="The round it begins with; default: the one after the last that was kept."
    )


class AbortArguments(Arguments):
    """See the command `abort`."""

    job: str = _JOB
    reason: str = Field(default="", max_length=500, description="Why, for the record.")


class IncidentsArguments(Arguments):
    """See the command `incidents`."""

    job: str | None = Field(default=None, min_length=1, max_length=200, description="Only those about this job.")
    since: int = Field(default=0, ge=0, description="Only those after this number.")


class LogsArguments(Arguments):
    """See the command `logs`."""

    job: str = _JOB
    site: str = Field(default="server", min_length=1, max_length=200, description="Whose log: a site, or 'server'.")
    lines: int = Field(default=200, ge=1, le=100_000, description="How many lines from its end.")


class FollowArguments(Arguments):
    """See the command `follow`."""

    job: str = _JOB
    offsets: dict[str, int] = Field(
        default={}, max_length=16, description="Where to go on in each file of the record, in bytes."
    )
