"""Torch models on disk: checkpoints beside the app."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from hansa.apis.app_constant import DefaultCheckpointFileName, EnvironmentKey
from hansa.apis.app_event_type import AppEventType
from hansa.apis.engine import OffersWriter, port
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable
from hansa.apis.model_desc import ModelDescriptor
from hansa.apis.model_persistor import ModelPersistor
from hansa.components.torch.checkpoint_file import (
    SAFETENSORS,
    is_safetensors,
    metadata_of,
    read_checkpoint,
    write_checkpoint,
)
from hansa.components.torch.pt_model_format import PTModelPersistenceFormatManager, check_fit
from hansa.errors import ConfigError


class PTFileModelPersistor(ModelPersistor):
    """Loads initial weights and saves every version of the global model as a checkpoint.

    The initial weights are those of the first of these that is given: `source_ckpt_file_full_name`; the file APP_CKPT
    of `config/environment.json`; the model; else the model begins empty, and a workflow before must bring one.
    Checkpoints are torch's (`.pt` and others) or `.safetensors`, by their ending. Of torch's only weights and plain
    data are read: one that holds code or objects is refused. Where a model is given, a checkpoint must fit it.

    Files are written to the app's folder (APP_ROOT), or to APP_CKPT_DIR of `config/environment.json` below it, and
    appear whole or not at all; in the simulator a version may be passed over for the next one, never the last. Each
    holds `model`, `meta_props` and `train_conf`, and the keys that the loaded checkpoint had beside these. On
    GLOBAL_BEST_MODEL_AVAILABLE the version saved last is kept as the best, because that is the one whose metric the
    sites have reported.

    Args:
        exclude_vars: A regular expression; variables in whose name it is found are not sent out. They stay in the file.
        model: A torch module, or its component id.
        global_model_file_name: Where the present model is saved.
        best_global_model_file_name: Where the best model is saved.
        source_ckpt_file_full_name: A checkpoint, absolute or relative to the working directory.

    Raises:
        ValueError: There is no such checkpoint, a file name leads out of the app's folder, or `exclude_vars` is no
            regular expression.
    """

    hears = frozenset((EventType.START_RUN, AppEventType.GLOBAL_BEST_MODEL_AVAILABLE))

    def __init__(
        self,
        exclude_vars: str | None = None,
        model: nn.Module | str | None = None,
        global_model_file_name: str = DefaultCheckpointFileName.GLOBAL_MODEL,
        best_global_model_file_name: str = DefaultCheckpointFileName.BEST_GLOBAL_MODEL,
        source_ckpt_file_full_name: str | None = None,
    ) -> None:
        super().__init__()
        for what, name in (
            ("global_model_file_name", global_model_file_name),
            ("best_global_model_file_name", best_global_model_file_name),
        ):
            if _leads_out(name):
                raise ValueError(f"{what} must be a file inside the app's folder, but got {name!r}")
        if source_ckpt_file_full_name and not Path(source_ckpt_file_full_name).exists():
            raise ValueError(f"there is no checkpoint {source_ckpt_file_full_name!r} (source_ckpt_file_full_name)")
        try:
            self.exclude_vars = re.compile(exclude_vars) if exclude_vars else None
        except re.error as error:
            raise ValueError(f"exclude_vars {exclude_vars!r} is no regular expression: {error}") from None
        self.model = model
        self.global_model_file_name = global_model_file_name
        self.best_global_model_file_name = best_global_model_file_name
        self.source_ckpt_file_full_name = source_ckpt_file_full_name
        self.log_dir: Path | None = None
        self.ckpt_preload_path: Path | None = None
        self.default_train_conf: dict[str, Any] | None = None  # Any: plain data
        self.persistence_manager: PTModelPersistenceFormatManager | None = None

    def handle_event(self, event: str, fl_ctx: FLContext) -> None:
        """Look around when the run starts; where that fails it ends with one line. Keep the best model."""
        if event == EventType.START_RUN:
            try:
                self._folder(fl_ctx)
            except ConfigError as error:
                self.system_panic(f"{self._name}: {error}", fl_ctx)
        elif event == AppEventType.GLOBAL_BEST_MODEL_AVAILABLE and self.persistence_manager is not None:
            self._save(self.best_global_model_file_name, fl_ctx)

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        """The initial weights, as arrays over the memory of the module or of what was read.

        Raises:
            ConfigError: A checkpoint cannot be read, holds code or no weights, or does not fit the model (the line
                names the layer and both shapes); the model is no torch module; `environment.json` is wrong.
        """
        self._folder(fl_ctx)
        source = Path(self.source_ckpt_file_full_name) if self.source_ckpt_file_full_name else self.ckpt_preload_path
        module = self.model if isinstance(self.model, nn.Module) else None
        variables = OrderedDict() if module is None else module.state_dict()
        data: dict[str, Any] = variables if source is None else read_checkpoint(source, key=self._source_key)
        manager = PTModelPersistenceFormatManager(data, default_train_conf=self.default_train_conf)
        if source is not None and module is not None:
            try:
                check_fit(variables, manager.var_dict, what="the checkpoint", is_wanted=self._is_sent)
            except ValueError as error:
                raise ConfigError(str(error), file=str(source), key=self._source_key) from None
        if any(map(is_safetensors, (self.global_model_file_name, self.best_global_model_file_name))):
            metadata_of(manager.to_persistence_dict())  # found now and not after the first round
        self.persistence_manager = manager
        return manager.to_model_learnable(self.exclude_vars)

    def save_model(self, ml: ModelLearnable, fl_ctx: FLContext) -> None:
        """Write the model: in the engine's own time where it offers that, else now."""
        if self.persistence_manager is None:  # a workflow that never loads
            self.persistence_manager = PTModelPersistenceFormatManager({}, default_train_conf=self.default_train_conf)
        self.persistence_manager.update(ml)
        self._save(self.global_model_file_name, fl_ctx)

    def save_model_file(self, save_path: str) -> None:
        """Write the present model to a file of any name, now.

        Raises:
            ConfigError: There is no model yet.
            OSError: The file cannot be written.
        """
        if self.persistence_manager is None:
            raise ConfigError("there is no model to save before one is loaded", key=str(save_path))
        write_checkpoint(Path(save_path), self.persistence_manager.to_persistence_dict())

    def get_model_inventory(self, fl_ctx: FLContext) -> dict[str, ModelDescriptor]:
        """The files that exist, by file name."""
        writer = port(fl_ctx.get_engine(), OffersWriter)
        if writer is not None:
            writer.finish_writes()
        files = [
            self._folder(fl_ctx) / name for name in (self.global_model_file_name, self.best_global_model_file_name)
        ]
        return {
            path.name: ModelDescriptor(name=path.name, location=str(path), model_format=self._format(path))
            for path in files
            if path.is_file()
        }

    def get_model(self, model_file: str, fl_ctx: FLContext) -> ModelLearnable | dict[str, Any] | None:
        """One of the inventory's models; None where it is not there, {} where it cannot be read."""
        descriptor = self.get_model_inventory(fl_ctx).get(model_file)
        if descriptor is None:
            return None
        try:
            data = read_checkpoint(Path(descriptor.location))
        except ConfigError as error:
            self.log_error(fl_ctx, str(error))
            return {}
        manager = PTModelPersistenceFormatManager(data, default_train_conf=self.default_train_conf)
        return manager.to_model_learnable(self.exclude_vars)

    @property
    def _source_key(self) -> str:
        return "source_ckpt_file_full_name" if self.source_ckpt_file_full_name else EnvironmentKey.CHECKPOINT_FILE_NAME

    def _is_sent(self, name: str) -> bool:
        return self.exclude_vars is None or not self.exclude_vars.search(name)

    def _format(self, path: Path) -> str:
        return SAFETENSORS if is_safetensors(path) else PTModelPersistenceFormatManager({}).get_persist_model_format()

    def _save(self, file_name: str, fl_ctx: FLContext) -> None:
        assert self.persistence_manager is not None
        path = self._folder(fl_ctx) / file_name
        # A dict of its own over arrays that nobody writes to: each version of the model has new ones.
        content = self.persistence_manager.to_persistence_dict()
        writer = port(fl_ctx.get_engine(), OffersWriter)
        if writer is None:
            write_checkpoint(path, content)
        else:
            writer.write_later(str(path), partial(write_checkpoint, path, content))

    def _folder(self, fl_ctx: FLContext) -> Path:
        """Where files go; found out at the first call, with everything else that the run's surroundings tell.

        Raises:
            ConfigError: They are wrong.
        """
        if self.log_dir is None:
            self._find_model(fl_ctx)
            root = Path(fl_ctx.get_prop(FLContextKey.APP_ROOT) or ".")
            given = _environment(root, fl_ctx)
            if checkpoint := given.get(EnvironmentKey.CHECKPOINT_FILE_NAME):
                self.ckpt_preload_path = root / checkpoint
            folder = root / given.get(EnvironmentKey.CHECKPOINT_DIR, "")
            folder.mkdir(parents=True, exist_ok=True)
            self.log_dir = folder
        return self.log_dir

    def _find_model(self, fl_ctx: FLContext) -> None:
        found = fl_ctx.get_engine().get_component(self.model) if isinstance(self.model, str) else self.model
        if found is not None and not isinstance(found, nn.Module):
            raise ConfigError(f"must be a torch.nn.Module or the id of one, not a {type(found).__name__}", key="model")
        if found is None and isinstance(self.model, str):
            raise ConfigError(f"there is no component {self.model!r}", key="model")
        self.model = found
        if found is not None:
            self.default_train_conf = {"train": {"model": type(found).__name__}}


def _leads_out(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def _environment(root: Path, fl_ctx: FLContext) -> dict[str, str]:
    """The app's `environment.json`; empty where there is none.

    Raises:
        ConfigError: It is no JSON object, or says something impossible.
    """
    path = root / getattr(fl_ctx.get_prop(FLContextKey.ARGS), "env", "config/environment.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(path)) from None
    if not isinstance(content, dict):
        raise ConfigError("must be an object", file=str(path))
    keys = (EnvironmentKey.CHECKPOINT_DIR, EnvironmentKey.CHECKPOINT_FILE_NAME)
    given = {key: content[key] for key in keys if content.get(key)}
    for key, value in given.items():
        if not isinstance(value, str):
            raise ConfigError(f"must be a text, not {type(value).__name__}", file=str(path), key=key)
    if _leads_out(given.get(EnvironmentKey.CHECKPOINT_DIR, "")):
        raise ConfigError("must be a folder below the app's", file=str(path), key=EnvironmentKey.CHECKPOINT_DIR)
    return given
