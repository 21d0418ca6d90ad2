"""Models of NumPy arrays on disk: safetensors files beside the app."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hansa import tensors
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO
from hansa.apis.engine import OffersWriter, port
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, ModelLearnableKey, make_model_learnable, model_learnable_to_dxo
from hansa.apis.model_desc import ModelDescriptor
from hansa.apis.model_locator import ModelLocator
from hansa.apis.model_persistor import ModelPersistor
from hansa.errors import ConfigError, DecodeError

SAFETENSORS = "safetensors"
"""The format of these models in an inventory."""

_ROUND = "round"


class NPModelPersistor(ModelPersistor):
    """Loads initial weights from the job and saves every version of the global model.

    Files are written to the app's folder (APP_ROOT) and appear whole or not at all; in the simulator a version may be
    passed over for the next one, never the last. On GLOBAL_BEST_MODEL_AVAILABLE
    the version saved last is kept as the best, because that is the one whose metric the sites have reported.

    Args:
        source: Initial weights: a `.safetensors` or `.npz` file, relative to the app's config folder. Empty: the
            model begins empty, and a workflow before must bring one.
        file_name: Where the present model is saved.
        best_file_name: Where the best model is saved.

    Raises:
        ValueError: A file name leads out of the app's folder.
    """

    hears = frozenset((AppEventType.GLOBAL_BEST_MODEL_AVAILABLE,))

    def __init__(
        self,
        source: str = "",
        file_name: str = "global_model.safetensors",
        best_file_name: str = "best_global_model.safetensors",
    ) -> None:
        super().__init__()
        for what, name in (("source", source), ("file_name", file_name), ("best_file_name", best_file_name)):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{what} must be a file inside the app's folder, but got {name!r}")
        self.source = source
        self.file_name = file_name
        self.best_file_name = best_file_name
        self._last: tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]] | None = None  # Any: every dtype

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Keep the best model."""
        if event_type == AppEventType.GLOBAL_BEST_MODEL_AVAILABLE and self._last is not None:
            _write(fl_ctx, self.best_file_name, *self._last)

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        """The weights of `source`.

        Raises:
            ConfigError: There is no such file, or it holds no weights.
        """
        if not self.source:
            return make_model_learnable({}, {})
        weights = _read(_app_root(fl_ctx) / "config" / self.source)
        self._last = (weights, {})
        return make_model_learnable(dict(weights), {})

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        """Write the model's weights; its meta stays behind, apart from the number of the round."""
        weights = {name: np.asarray(value) for name, value in model[ModelLearnableKey.WEIGHTS].items()}
        round_number = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        metadata = {} if round_number is None else {_ROUND: str(round_number)}
        _write(fl_ctx, self.file_name, weights, metadata)
        self._last = (weights, metadata)

    def get_model_inventory(self, fl_ctx: FLContext) -> dict[str, ModelDescriptor]:
        """The files that exist, by file name."""
        writer = port(fl_ctx.get_engine(), OffersWriter)
        if writer is not None:
            writer.finish_writes()
        folder = _app_root(fl_ctx)
        return {
            name: ModelDescriptor(name=name, location=str(folder / name), model_format=SAFETENSORS)
            for name in (self.file_name, self.best_file_name)
            if (folder / name).is_file()
        }

    def get_model(self, model_file: str, fl_ctx: FLContext) -> ModelLearnable | None:
        """One of the inventory's models, in arrays of its own; None where it is not there or cannot be read."""
        if model_file not in self.get_model_inventory(fl_ctx):
            return None
        try:
            weights = tensors.read(_app_root(fl_ctx) / model_file, mmap=False)
        except (OSError, DecodeError) as error:
            self.log_error(fl_ctx, f"model {model_file} cannot be read: {error}")
            return None
        return make_model_learnable(weights, {})


class NPModelLocator(ModelLocator):
    """Serves the models that a persistor has saved, by the persistor's own names.

    Args:
        persistor_id: Component id of the `ModelPersistor`.
    """

    def __init__(self, persistor_id: str = AppConstants.DEFAULT_PERSISTOR_ID) -> None:
        super().__init__()
        self.persistor_id = persistor_id

    def get_model_names(self, fl_ctx: FLContext) -> list[str]:
        """The names in the persistor's inventory."""
        persistor = self._persistor(fl_ctx)
        return list(persistor.get_model_inventory(fl_ctx)) if persistor else []

    def locate_model(self, model_name: str, fl_ctx: FLContext) -> DXO | None:
        """One of these models as weights; None where it cannot be found."""
        persistor = self._persistor(fl_ctx)
        model = persistor.get_model(model_name, fl_ctx) if persistor else None
        return model_learnable_to_dxo(model) if isinstance(model, ModelLearnable) else None

    def _persistor(self, fl_ctx: FLContext) -> ModelPersistor | None:
        persistor = fl_ctx.get_engine().get_component(self.persistor_id)
        if isinstance(persistor, ModelPersistor):
            return persistor
        found = "there is none" if persistor is None else f"it is a {type(persistor).__name__}"
        what = f"component {self.persistor_id!r} must be a ModelPersistor, but {found}"
        self.system_panic(f"{self._name}: {what}", fl_ctx)
        return None


class NPFileModelLocator(ModelLocator):
    """Serves models that came with the job.

    Args:
        files: For each model's name its `.safetensors` or `.npz` file, relative to the app's config folder.

    Raises:
        ValueError: A file leads out of that folder.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        super().__init__()
        for name, file in files.items():
            if Path(file).is_absolute() or ".." in Path(file).parts:
                raise ValueError(f"files[{name!r}] must be a file inside the app's config folder, but got {file!r}")
        self.files = dict(files)

    def get_model_names(self, fl_ctx: FLContext) -> list[str]:
        """All of them, in the order of `files`."""
        return list(self.files)

    def locate_model(self, model_name: str, fl_ctx: FLContext) -> DXO | None:
        """One of these models as weights; None where it cannot be read."""
        try:
            weights = _read(_app_root(fl_ctx) / "config" / self.files[model_name])
        except (ConfigError, KeyError) as error:
            self.log_error(fl_ctx, f"model {model_name!r} cannot be read: {error}")
            return None
        return model_learnable_to_dxo(make_model_learnable(weights, {}))


def _app_root(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_prop(FLContextKey.APP_ROOT) or ".")


def _write(
    fl_ctx: FLContext,
    file_name: str,
    weights: dict[str, np.ndarray[Any, Any]],  # Any: every dtype
    metadata: dict[str, str],
) -> None:
    """Save a model: in the engine's own time where it offers that, else now."""
    path = _app_root(fl_ctx) / file_name
    writer = port(fl_ctx.get_engine(), OffersWriter)
    if writer is None:
        tensors.write(path, weights, metadata)
    else:
        writer.write_later(str(path), partial(tensors.write, path, weights, metadata))


def _read(path: Path) -> dict[str, np.ndarray[Any, Any]]:  # Any: every dtype
    """Weights from a file of the job.

    Raises:
        ConfigError: No such file, or nothing in it that could be weights.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".safetensors":
            return tensors.read(path, mmap=False)
    except FileNotFoundError:
        raise ConfigError("there are no initial weights of that name", file=str(path), key="source") from None
    except (OSError, ValueError, DecodeError) as error:
        raise ConfigError(f"no weights can be read from it: {error}", file=str(path), key="source") from None
    raise ConfigError("initial weights must be .safetensors or .npz", file=str(path), key="source")
