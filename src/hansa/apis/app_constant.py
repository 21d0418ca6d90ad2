"""The constants that training applications and ready-made components share; values are FLARE 2.0's."""

from __future__ import annotations


class AppConstants:
    """Names of tasks, phases, context properties and headers in federated training."""

    # Devices and processes of a local training.
    DEVICE = "device"
    MULTI_GPU = "multi_gpu"
    MY_RANK = "my_rank"
    NUMBER_OF_GPUS = "number_of_gpus"

    # Where models and logs lie.
    CKPT_PRELOAD_PATH = "ckpt_preload_path"
    CONFIG_PATH = "config_path"
    DEFAULT_MODEL_DIR = "models"
    LOG_DIR = "model_log_dir"
    MODEL_LOAD_PATH = "_model_load_path"
    MODEL_SAVE_PATH = "_model_save_path"
    MODEL_URL = "model_url"

    # What a model consists of.
    DXO = "DXO"
    GLOBAL_MODEL = "global_model"
    IS_BEST = "is_best"
    META_COOKIE = "cookie"
    META_DATA = "meta_data"
    MODEL_NAME = "model_name"
    MODEL_NETWORK = "model_network"
    MODEL_OWNER = "_model_owner_"
    MODEL_WEIGHTS = "_model_weights_"

    # How far a training is.
    CURRENT_LEARNING_RATE = "current_learning_rate"
    CURRENT_ROUND = "current_round"
    INITIAL_LEARNING_RATE = "initial_learning_rate"
    IS_FIRST_ROUND = "is_first_round"
    LOCAL_EPOCHS = "local_epochs"
    NUM_EPOCHS_CURRENT_ROUND = "num_epochs_current_round"
    NUM_ROUNDS = "num_rounds"
    NUM_TOTAL_EPOCHS = "num_total_epochs"
    NUM_TOTAL_STEPS = "num_total_steps"
    ROUND = "_round_"
    START_ROUND = "start_round"
    WAIT_AFTER_MIN_CLIENTS = "wait_after_min_clients"

    # Ids under which workflows look for their components unless told otherwise.
    DEFAULT_AGGREGATOR_ID = "aggregator"
    DEFAULT_FORMATTER_ID = "formatter"
    DEFAULT_MODEL_LOCATOR_ID = "model_locator"
    DEFAULT_PERSISTOR_ID = "persistor"
    DEFAULT_SHAREABLE_GENERATOR_ID = "shareable_generator"

    # Tasks.
    TASK_END_RUN = "_end_run_"
    TASK_GET_WEIGHTS = "get_weights"
    TASK_SUBMIT_MODEL = "submit_model"
    TASK_TRAIN = "train"
    TASK_VALIDATION = "validate"

    # Phases and states of a workflow.
    PHASE = "_phase_"
    PHASE_FINISHED = "_finished_"
    PHASE_INIT = "_init_"
    PHASE_MODEL_VALIDATION = "model_validation"
    PHASE_TRAIN = "train"
    STATUS_DONE = "_done_"
    STATUS_IDLE = "_idle_"
    STATUS_TRAINING = "_training_"
    STATUS_WAIT = "_wait_"

    # A contribution on its way into the aggregate.
    AGGREGATION_ACCEPTED = "_aggregation_accepted"
    AGGREGATION_RESULT = "_aggregation_result"
    AGGREGATION_TRIGGERED = "_aggregation_triggered"
    CONTRIBUTION_CLIENT = "contribution_client"
    CONTRIBUTION_ROUND = "contribution_round"
    TRAINING_RESULT = "_training_result_"
    TRAIN_CONTEXT = "train_context"
    TRAIN_SHAREABLE = "_train_shareable_"

    # Evaluation across sites; PARTICIPATING_CLIENTS keeps FLARE's spelling, which is a key on the wire.
    CROSS_VAL_CLIENT_MODEL = "_cross_val_client_model_"
    CROSS_VAL_DIR = "cross_site_val"
    CROSS_VAL_MODEL_DIR_NAME = "model_shareables"
    CROSS_VAL_MODEL_PATH = "_cross_val_model_path_"
    CROSS_VAL_RESULTS_DIR_NAME = "result_shareables"
    CROSS_VAL_RESULTS_PATH = "_cross_val_results_path_"
    CROSS_VAL_SERVER_MODEL = "_cross_val_server_model_"
    DATA_CLIENT = "_data_client_"
    FAILURE = "failure"
    MODEL_TO_VALIDATE = "_model_to_validate_"
    PARTICIPATING_CLIENTS = "_particpating_clients_"
    RECEIVED_MODEL = "_receive_model_"
    RECEIVED_MODEL_OWNER = "_receive_model_owner_"
    SUBMIT_MODEL_FAILURE_REASON = "_submit_model_failure_reason"
    SUBMIT_MODEL_NAME = "submit_model_name"
    VALIDATE_TYPE = "_validate_type"
    VALIDATION_RESULT = "_validation_result_"


class EnvironmentKey:
    """Keys of an app's `config/environment.json` that say where its checkpoint lies."""

    CHECKPOINT_DIR = "APP_CKPT_DIR"
    CHECKPOINT_FILE_NAME = "APP_CKPT"


class DefaultCheckpointFileName:
    """File names of checkpoints where nothing else is set."""

    GLOBAL_MODEL = "FL_global_model.pt"
    BEST_GLOBAL_MODEL = "best_FL_global_model.pt"


class ModelName:
    """Which of a site's models is meant when the server asks for one."""

    BEST_MODEL = "best_model"
    FINAL_MODEL = "final_model"


class ModelFormat:
    """How a model is stored."""

    PT_CHECKPOINT = "pt_checkpoint"
    TORCH_SCRIPT = "torch_script"
    PT_ONNX = "pt_onnx"
    TF_CHECKPOINT = "tf_checkpoint"
    KERAS = "keras_model"


class ValidateType:
    """Why a validation is asked for: to measure the received model before training, or a model as such."""

    BEFORE_TRAIN_VALIDATE = "before_train_validate"
    MODEL_VALIDATE = "model_validate"


class AlgorithmConstants:
    """Names that the two ends of SCAFFOLD agree on."""

    SCAFFOLD_CTRL_DIFF = "scaffold_c_diff"
    SCAFFOLD_CTRL_GLOBAL = "scaffold_c_global"
    SCAFFOLD_CTRL_AGGREGATOR_ID = "scaffold_ctrl_aggregator"


class ExecutorTasks:
    """Task names that executors of FLARE's first generation answer to."""

    TRAIN = "train"
    VALIDATE = "validate"
    CROSS_VALIDATION = "__cross_validation"
    SUBMIT_BEST = "__submit_best"
    REPORT_STATUS = "report_status"
