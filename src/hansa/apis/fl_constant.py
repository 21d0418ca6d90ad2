"""Names with a fixed meaning: context keys, return codes, headers, topics, command names.

The values are part of FLARE's vocabulary; applications, job folders and peers compare them as text.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class ReservedKey:
    """The text behind reserved context keys and headers; a key that begins with `__` cannot be removed."""

    MANAGER = "__manager__"
    ENGINE = "__engine__"
    AUX_RUNNER = "__aux_runner__"
    RUN_NUM = "__run_num__"
    IDENTITY_NAME = "__identity_name__"
    PEER_CTX = "__peer_ctx__"
    RC = "__rc__"
    COOKIE_JAR = "__cookie_jar__"
    WORKSPACE_ROOT = "__workspace_root__"
    APP_ROOT = "__app_root__"
    CLIENT_NAME = "__client_name__"
    TASK_NAME = "__task_name__"
    TASK_ID = "__task_id__"
    TASK_DATA = "__task_data__"
    TASK_RESULT = "__task_result__"
    EVENT_ID = "__event_id__"
    EVENT_ORIGIN = "__event_origin__"
    EVENT_ORIGIN_SITE = "__event_origin_site__"
    EVENT_DATA = "__event_data__"
    EVENT_SCOPE = "__event_scope__"
    RUNNER = "__runner__"
    WORKFLOW = "__workflow__"
    REPLY = "__reply__"
    SHAREABLE = "__shareable__"
    RUN_ABORT_SIGNAL = "__run_abort_signal__"
    ARGS = "__args__"
    WORKSPACE_OBJECT = "__workspace_object__"
    RANK_NUMBER = "__rank_number__"
    NUM_OF_PROCESSES = "__num_of_processes__"
    FROM_RANK_NUMBER = "__from_rank_number__"
    SECURE_MODE = "__secure_mode__"
    IS_RESEND = "__is_resend__"


class FLContextKey:
    """What a component finds in the context it is called with."""

    TASK_NAME = ReservedKey.TASK_NAME  # str, while a task is under way
    TASK_DATA = ReservedKey.TASK_DATA  # the Shareable that came with the task
    TASK_RESULT = ReservedKey.TASK_RESULT  # the Shareable that answers it
    TASK_ID = ReservedKey.TASK_ID  # str, names the task of this one site
    EVENT_ID = ReservedKey.EVENT_ID  # str, names one firing of an event
    EVENT_ORIGIN = ReservedKey.EVENT_ORIGIN  # the name of the component that fired
    EVENT_ORIGIN_SITE = ReservedKey.EVENT_ORIGIN_SITE  # the site where it fired
    EVENT_DATA = ReservedKey.EVENT_DATA  # what the event is about: a Shareable, or the reason of a panic
    EVENT_SCOPE = ReservedKey.EVENT_SCOPE  # an EventScope
    CLIENT_NAME = ReservedKey.CLIENT_NAME  # the site's name; at sites only
    WORKSPACE_ROOT = ReservedKey.WORKSPACE_ROOT  # path of the participant's folder
    WORKSPACE_OBJECT = ReservedKey.WORKSPACE_OBJECT  # a Workspace over that folder
    CURRENT_RUN = ReservedKey.RUN_NUM  # int > 0
    APP_ROOT = ReservedKey.APP_ROOT  # path of the app within the run
    PEER_CONTEXT = ReservedKey.PEER_CTX  # an FLContext with the other side's public properties
    IS_CLIENT_TASK_RESEND = ReservedKey.IS_RESEND  # True while a task is handed out again
    RUNNER = ReservedKey.RUNNER  # what runs the tasks on this side
    WORKFLOW = ReservedKey.WORKFLOW  # the id of the workflow in progress
    SHAREABLE = ReservedKey.SHAREABLE  # the message at hand; on the server also in the peer context
    RUN_ABORT_SIGNAL = ReservedKey.RUN_ABORT_SIGNAL  # the Signal that ends the run
    ARGS = ReservedKey.ARGS  # an object with `env`, `train_config`, `workspace`, `log_config`
    REPLY = ReservedKey.REPLY  # the reply to the request at hand
    RANK_NUMBER = ReservedKey.RANK_NUMBER  # int, the process within a site that runs on several
    NUM_OF_PROCESSES = ReservedKey.NUM_OF_PROCESSES  # int, how many of them there are
    FROM_RANK_NUMBER = ReservedKey.FROM_RANK_NUMBER  # int, the rank that fired the event
    SECURE_MODE = ReservedKey.SECURE_MODE  # bool: a provisioned federation


class ReturnCode:
    """How a task or a request went; the header `RC` of a reply."""

    OK = "OK"  # it went well
    BAD_PEER_CONTEXT = "BAD_PEER_CONTEXT"  # the peer's properties are no context
    BAD_REQUEST_DATA = "BAD_REQUEST_DATA"  # the request is not understood
    BAD_TASK_DATA = "BAD_TASK_DATA"  # the task's data is not what the executor needs
    COMMUNICATION_ERROR = "COMMUNICATION_ERROR"  # the message did not get through
    ERROR = "ERROR"  # it failed for a reason without a code of its own
    EXECUTION_EXCEPTION = "EXECUTION_EXCEPTION"  # the executor raised
    EXECUTION_RESULT_ERROR = "EXECUTION_RESULT_ERROR"  # the executor returned no Shareable
    HANDLER_EXCEPTION = "HANDLER_EXCEPTION"  # the handler of an aux message raised
    MISSING_PEER_CONTEXT = "MISSING_PEER_CONTEXT"  # the peer sent no properties
    RUN_MISMATCH = "RUN_MISMATCH"  # the peer is in another run
    TASK_ABORTED = "TASK_ABORTED"  # somebody asked the task to stop
    TASK_DATA_FILTER_ERROR = "TASK_DATA_FILTER_ERROR"  # a filter on the task's data raised
    TASK_RESULT_FILTER_ERROR = "TASK_RESULT_FILTER_ERROR"  # a filter on the result raised
    TASK_UNKNOWN = "TASK_UNKNOWN"  # no executor for a task of this name
    TASK_UNSUPPORTED = "TASK_UNSUPPORTED"  # the executor cannot do what the task asks
    TOPIC_UNKNOWN = "TOPIC_UNKNOWN"  # no handler for an aux message of this topic
    MODEL_UNRECOGNIZED = "MODEL_UNRECOGNIZED"  # the model asked for is unknown
    VALIDATE_TYPE_UNKNOWN = "VALIDATE_TYPE_UNKNOWN"  # the kind of validation asked for is unknown
    EMPTY_RESULT = "EMPTY_RESULT"  # the executor had nothing to say
    SERVER_NOT_READY = "SERVER_NOT_READY"  # ask again later


class EventScope:
    """How far an event reaches."""

    FEDERATION = "federation"  # fired here and then at the other side
    LOCAL = "local"  # fired in this process only


class FedEventHeader:
    """Headers of the Shareable that a federated event carries."""

    TIMESTAMP = "_timestamp"
    EVENT_TYPE = "_event_type"
    DIRECTION = "_direction"  # "in" where it arrives, "out" where it leaves
    ORIGIN = "_origin"  # the identity of the sender
    TARGETS = "_targets"  # names of sites, or None for all


class LogMessageTag:
    """Tags of the analytics data that log events carry."""

    DEBUG = "log/debug"
    ERROR = "log/error"
    EXCEPTION = "log/exception"
    INFO = "log/info"
    WARNING = "log/warning"
    CRITICAL = "log/critical"
    LOG_RECORD = "log_record"


class ReservedTopic:
    """Topics of aux messages that the runtime keeps for itself."""

    END_RUN = "__end_run__"
    ABORT_ASK = "__abort_task__"
    AUX_COMMAND = "__aux_command__"


class NonSerializableKeys:
    """Context keys whose values belong to one process."""

    KEYS: ClassVar[list[str]] = [ReservedKey.ENGINE, ReservedKey.MANAGER, ReservedKey.RUNNER]


class MachineStatus(Enum):
    """Where a server or a site stands in its life."""

    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"


class AdminCommandNames:
    """Words of the admin console."""

    SET_RUN_NUMBER = "set_run_number"
    DELETE_RUN_NUMBER = "delete_run_number"
    DEPLOY_APP = "deploy_app"
    START_APP = "start_app"
    CHECK_STATUS = "check_status"
    ABORT = "abort"
    ABORT_TASK = "abort_task"
    REMOVE_CLIENT = "remove_client"
    SHUTDOWN = "shutdown"
    RESTART = "restart"
    SET_TIMEOUT = "set_timeout"
    SHOW_STATS = "show_stats"
    SHOW_ERRORS = "show_errors"
    RESET_ERRORS = "reset_errors"
    AUX_COMMAND = "aux_command"
