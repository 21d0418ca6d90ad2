"""What a site's answer is at the server: its result, or an error with the reason in its place."""

from __future__ import annotations

from hansa.apis.fl_constant import ReservedKey, ReturnCode
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.errors import DecodeError
from hansa.runtime.assignments import Answer, failed_result
from hansa.wire.codec import decode
from hansa.wire.message import Message


def result_of(answer: Answer, *, readonly: bool) -> tuple[Shareable, str | None]:
    """The result of an answer.

    What cannot be read, is none, answers another task or says that it comes from somebody else still counts as this
    site's answer, as an error: the round never waits for an answer that was received.

    Args:
        answer: What came.
        readonly: Whether nobody here writes into its arrays.

    Returns:
        The result, and why it is none if it is not what came.
    """
    assignment = answer.assignment
    try:
        result = _decoded(answer.message, readonly=readonly)
    except DecodeError as error:
        why = f"the result cannot be read: {error}"
        return failed_result(assignment, ReturnCode.EXECUTION_RESULT_ERROR, why), why
    if not isinstance(result, Shareable):
        why = f"the result is no Shareable but a {type(result).__name__}"
        return failed_result(assignment, ReturnCode.EXECUTION_RESULT_ERROR, why), why
    if result.get_header(ReservedHeaderKey.TASK_ID) != assignment.task_id:
        why = f"the result is for task {result.get_header(ReservedHeaderKey.TASK_ID)!r:.80}, not {assignment.task_id!r}"
        return failed_result(assignment, ReturnCode.EXECUTION_RESULT_ERROR, why), why
    sender = result.get_peer_prop(ReservedKey.IDENTITY_NAME, None)
    if sender != assignment.site:
        why = f"the result says that it comes from {sender!r:.80}"
        return failed_result(assignment, ReturnCode.BAD_PEER_CONTEXT, why), why
    return result, None


def _decoded(message: Message | dict[str, object], *, readonly: bool) -> object:
    if isinstance(message, Message):
        return decode(message, arrays="readonly" if readonly else "own")
    result = Shareable()
    result.update(message)
    return result
