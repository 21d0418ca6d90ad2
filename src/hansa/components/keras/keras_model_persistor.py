"""Keras models on disk: files that `keras.saving.load_model` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from hansa.apis.app_event_type import AppEventType
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.library_weights import is_keras, keras_arrays, set_keras_arrays
from hansa.apis.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from hansa.apis.model_desc import ModelDescriptor
from hansa.apis.model_persistor import ModelPersistor
from hansa.errors import ConfigError

_FORMAT = "keras"


@final
class KerasModelPersistor(ModelPersistor):
    """Begins with a Keras model's weights, and saves every version of the global model as a whole Keras model.

    Weights travel under the names of `hansa.client.keras`. Files are written to the app's folder (APP_ROOT) and appear
    whole or not at all. On GLOBAL_BEST_MODEL_AVAILABLE the version saved last is kept as the best, because that is the
    one whose metric the sites have reported.

    Args:
        model: A Keras model that is built, or its component id.
        file_name: Where the present model is saved: `.keras`, or `.weights.h5` for weights alone.
        best_file_name: Where the best model is saved; likewise.

    Raises:
        ValueError: A file name has another ending, or leads out of the app's folder.
    """

    hears = frozenset((AppEventType.GLOBAL_BEST_MODEL_AVAILABLE,))

    def __init__(
        self,
        model: Any,  # Any: a Keras model or a text
        file_name: str = "global_model.keras",
        best_file_name: str = "best_global_model.keras",
    ) -> None:
        super().__init__()
        for what, name in (("file_name", file_name), ("best_file_name", best_file_name)):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{what} must be a file inside the app's folder, but got {name!r}")
            if not name.endswith((".keras", ".weights.h5")):
                raise ValueError(f"{what} must end with .keras or .weights.h5, but got {name!r}")
        self.model = model
        self.file_name = file_name
        self.best_file_name = best_file_name
        self._has_saved = False

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Keep the best model."""
        if event_type == AppEventType.GLOBAL_BEST_MODEL_AVAILABLE and self._has_saved:
            self._write(self.best_file_name, fl_ctx)

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        """The weights of the model.

        Raises:
            ConfigError: It is no Keras model, or has no weights yet.
        """
        if isinstance(self.model, str):
            found = fl_ctx.get_engine().get_component(self.model)
            if found is None:
                raise ConfigError(f"there is no component {self.model!r}", key="model")
            self.model = found
        if not is_keras(self.model):
            raise ConfigError(f"must be a Keras model or the id of one, not a {type(self.model).__name__}", key="model")
        if not self.model.built:
            raise ConfigError("has no weights yet: build it first, or give it an Input layer", key="model")
        self._has_saved = True  # the initial model may be the best one
        return make_model_learnable(keras_arrays(self.model), {})

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        """Write the model."""
        set_keras_arrays(self.model, model[ModelLearnableKey.WEIGHTS])
        self._has_saved = True
        self._write(self.file_name, fl_ctx)

    def get_model_inventory(self, fl_ctx: FLContext) -> dict[str, ModelDescriptor]:
        """The files that exist, by file name."""
        return {
            name: ModelDescriptor(name=name, location=str(_root(fl_ctx) / name), model_format=_FORMAT)
            for name in (self.file_name, self.best_file_name)
            if (_root(fl_ctx) / name).is_file()
        }

    def _write(self, name: str, fl_ctx: FLContext) -> None:
        path = _root(fl_ctx) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".unfinished-{path.name}")  # Keras looks at the ending
        if name.endswith(".keras"):
            self.model.save(unfinished)
        else:
            self.model.save_weights(unfinished)
        unfinished.replace(path)


def _root(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_prop(FLContextKey.APP_ROOT) or ".")
