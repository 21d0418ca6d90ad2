"""The words of FLARE 2.0's admin API: statuses, targets, keys of details, and the response that every call gives."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any, ParamSpec

from hansa.admin.permissions import NotPermitted
from hansa.errors import ConfigError, HansaError
from hansa.provision.identity import KitError

P = ParamSpec("P")


class APIStatus(str, Enum):
    """How a call ended."""

    SUCCESS = "SUCCESS"  # it was done
    ERROR_PROTOCOL = "ERROR_PROTOCOL"  # the two sides do not understand each other
    ERROR_CERT = "ERROR_CERT"  # something is wrong with the kit
    ERROR_AUTHENTICATION = "ERROR_AUTHENTICATION"  # nobody has logged in, or not as who the kit is of
    ERROR_AUTHORIZATION = "ERROR_AUTHORIZATION"  # no admin may do that
    ERROR_SYNTAX = "ERROR_SYNTAX"  # an argument is wrong, or not offered in this form
    ERROR_RUNTIME = "ERROR_RUNTIME"  # it could not be done as things stand
    ERROR_INVALID_CLIENT = "ERROR_INVALID_CLIENT"  # there is no such site


class TargetType(str, Enum):
    """Whom a call is about."""

    ALL = "all"
    SERVER = "server"
    CLIENT = "client"


class FLDetailKey(str, Enum):
    """Keys of a response's details."""

    RUN_NUMBER = "run_number"
    APP_NAME = "app_name"
    REGISTERED_CLIENTS = "registered_clients"
    CONNECTED_CLIENTS = "connected_clients"
    SERVER_ENGINE_STATUS = "server_engine_status"
    SERVER_LOG = "server_log"
    CLIENT_LOG = "client_log"
    STATUS_TABLE = "status_table"
    RESPONSES = "responses"
    SUBMITTED_MODELS = "submitted_models"


class APISyntaxError(ConfigError):
    """An argument of a call is wrong; the call's response says so with ERROR_SYNTAX."""


class NotDone(HansaError):
    """A call that cannot be done.

    Args:
        status: What its response says.
        message: Why, in one line.
    """

    def __init__(self, status: APIStatus, message: str) -> None:
        self.status = status
        super().__init__(message)


class FLAdminAPIResponse(dict[str, Any]):  # Any: FLARE's, a status, a dict and a raw reply
    """What a call gives: `status`, `details` where there are any, `raw` where somebody put it in.

    Args:
        status: How the call ended.
        details: What it found, or under `message` one line for people.
        raw: A server's reply as it came; nothing here sets it.
    """

    def __init__(
        self,
        status: APIStatus,
        details: dict[str, Any] | None = None,  # Any: whatever the call finds
        raw: dict[str, Any] | None = None,  # Any: the same
    ) -> None:
        super().__init__(status=status)
        if details is not None:
            self["details"] = details
        if raw is not None:
            self["raw"] = raw


def succeeded(message: object = None, **details: object) -> FLAdminAPIResponse:
    """The response of a call that was done, with these details."""
    return FLAdminAPIResponse(
        APIStatus.SUCCESS, {**details, "message": message} if message is not None else dict(details)
    )


def refused(error: Exception) -> FLAdminAPIResponse:
    """The response of a call that raised."""
    return FLAdminAPIResponse(_status_of(error), {"message": str(error)})


def wrap_with_return_exception_responses(func: Callable[P, FLAdminAPIResponse]) -> Callable[P, FLAdminAPIResponse]:
    """Have a method of the API answer with a response where it would raise.

    Only what Hansa and the disk raise becomes a response; a mistake in the program is raised as it is. With `debug` on
    the object whose method it is, each call and its response are written to stderr.
    """

    @functools.wraps(func)
    def answered(*args: P.args, **kwargs: P.kwargs) -> FLAdminAPIResponse:
        try:
            response = func(*args, **kwargs)
        except (HansaError, OSError) as error:
            response = refused(error)
        if args and getattr(args[0], "debug", False):
            sys.stderr.write(f"{func.__name__}{args[1:]} {kwargs or ''} -> {response}\n")
        return response

    return answered


def _status_of(error: Exception) -> APIStatus:
    match error:
        case NotDone():
            return error.status
        case APISyntaxError():
            return APIStatus.ERROR_SYNTAX
        case KitError():
            return APIStatus.ERROR_CERT
        case NotPermitted():
            return APIStatus.ERROR_AUTHORIZATION
        case _:
            return APIStatus.ERROR_RUNTIME
