"""The events of federated training; values are FLARE 2.0's."""

from __future__ import annotations


class AppEventType:
    """What workflows and learners tell all components of their side.

    The members of the last group are declared for applications; no shipped component fires them.
    """

    # The workflow's course.
    INITIAL_MODEL_LOADED = "_initial_model_loaded"
    TRAINING_STARTED = "_training_started"
    ROUND_STARTED = "_round_started"
    ROUND_DONE = "_round_done"

    # One contribution: before it is handed out, and around its acceptance.
    BEFORE_TRAIN_TASK = "_before_train_task"
    BEFORE_CONTRIBUTION_ACCEPT = "_before_contribution_accept"
    AFTER_CONTRIBUTION_ACCEPT = "_after_contribution_accept"

    # From contributions to the next global model.
    BEFORE_AGGREGATION = "_before_aggregation"
    AFTER_AGGREGATION = "_after_aggregation"
    BEFORE_SHAREABLE_TO_LEARNABLE = "_before_model_update"
    AFTER_SHAREABLE_TO_LEARNABLE = "_after_model_update"
    BEFORE_LEARNABLE_PERSIST = "_before_save_model"
    AFTER_LEARNABLE_PERSIST = "_after_save_model"
    GLOBAL_BEST_MODEL_AVAILABLE = "_global_best_model_available"

    # Evaluation across sites.
    CROSS_VAL_INIT = "_cross_val_init"
    RECEIVE_BEST_MODEL = "_receive_best_model"
    SEND_MODEL_FOR_VALIDATION = "_send_model_for_validation"
    VALIDATION_RESULT_RECEIVED = "_validation_result_received"

    # Numbers, texts and images reported during a run.
    ANALYTIC_EVENT_TYPE = "analytix_log_stats"

    # Declared for applications.
    END_AGGREGATION = "_end_aggregation"
    SUBMIT_LOCAL_BEST_MODEL = "_submit_local_best_model"
    SERVER_RECEIVE_BEST_MODEL = "_server_receive_best_model"
    RECEIVE_VALIDATION_MODEL = "_receive_validation_model"
    SEND_VALIDATION_RESULTS = "_send_validation_results"
    RECEIVE_VALIDATION_RESULTS = "_receive_validation_results"
    BEFORE_INITIALIZE = "_before_initialize"
    AFTER_INITIALIZE = "_after_initialize"
    BEFORE_TRAIN = "_before_train"
    AFTER_TRAIN = "_after_train"
    BEFORE_SEND_BEST_MODEL = "_before_send_best_model"
    AFTER_SEND_BEST_MODEL = "_after_send_best_model"
    LOCAL_BEST_MODEL_AVAILABLE = "_local_best_model_available"
    BEFORE_GET_VALIDATION_MODELS = "_before_get_validation_models"
    AFTER_GET_VALIDATION_MODELS = "_after_get_validation_models"
    BEFORE_VALIDATE_MODEL = "_before_validate_model"
    AFTER_VALIDATE_MODEL = "_after_validate_model"
    BEFORE_SUBMIT_VALIDATION_RESULTS = "_before_submit_validation_results"
    AFTER_SUBMIT_VALIDATION_RESULTS = "_after_submit_validation_results"
    RECEIVE_CONTRIBUTION = "_receive_contribution"
    GLOBAL_WEIGHTS_UPDATED = "_global_weights_updated"
    TRAINING_FINISHED = "_training_finished"
    TRAIN_DONE = "_train_done"
    LOGGING_EVENT_TYPE = "analytix_logging"
