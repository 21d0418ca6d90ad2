"""The events that the runtime itself fires; components add their own words in `app_event_type`."""

from __future__ import annotations


class EventType:
    """What has just happened, or is about to. S: fired on the server, C: at the sites."""

    # the run
    ABOUT_TO_START_RUN = "_about_to_start_run"  # C: components are built, nothing has run yet
    START_RUN = "_start_run"  # S, C: set yourself up
    ABOUT_TO_END_RUN = "_about_to_end_run"  # S, C: the last moment to send something
    END_RUN = "_end_run"  # S, C: clean up
    START_WORKFLOW = "_start_workflow"  # S: one of the run's controllers begins
    END_WORKFLOW = "_end_workflow"  # S: it has ended

    # errors
    ABORT_TASK = "_abort_task"  # C: the task under way shall stop
    FATAL_SYSTEM_ERROR = "_fatal_system_error"  # S, C: a component panics; EVENT_DATA is the reason
    FATAL_TASK_ERROR = "_fatal_task_error"  # C: the task under way cannot go on; EVENT_DATA is the reason

    # the way of a task
    BEFORE_PULL_TASK = "_before_pull_task"  # C: about to ask for a task
    AFTER_PULL_TASK = "_after_pull_task"  # C: asked
    BEFORE_TASK_DATA_FILTER = "_before_task_data_filter"  # S, C: TASK_DATA has not been filtered yet
    AFTER_TASK_DATA_FILTER = "_after_task_data_filter"  # S, C: it has
    BEFORE_TASK_EXECUTION = "_before_task_execution"  # C: the executor comes next
    AFTER_TASK_EXECUTION = "_after_task_execution"  # C: TASK_RESULT is there
    BEFORE_TASK_RESULT_FILTER = "_before_task_result_filter"  # S, C: TASK_RESULT has not been filtered yet
    AFTER_TASK_RESULT_FILTER = "_after_task_result_filter"  # S, C: it has
    BEFORE_SEND_TASK_RESULT = "_before_send_task_result"  # C: the last look at what leaves
    AFTER_SEND_TASK_RESULT = "_after_send_task_result"  # C: it has left
    BEFORE_PROCESS_SUBMISSION = "_before_process_submission"  # S: the controller gets a result
    AFTER_PROCESS_SUBMISSION = "_after_process_submission"  # S: it has dealt with it

    # lines of the log; EVENT_DATA holds the text
    CRITICAL_LOG_AVAILABLE = "_critical_log_available"
    ERROR_LOG_AVAILABLE = "_error_log_available"
    EXCEPTION_LOG_AVAILABLE = "_exception_log_available"
    WARNING_LOG_AVAILABLE = "_warning_log_available"
    INFO_LOG_AVAILABLE = "_info_log_available"
    DEBUG_LOG_AVAILABLE = "_debug_log_available"
