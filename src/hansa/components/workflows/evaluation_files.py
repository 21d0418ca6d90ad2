"""The files of an evaluation across sites: models on their way, and results."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, from_bytes
from hansa.apis.engine import History
from hansa.apis.shareable import Shareable
from hansa.components.reported import dxo_of
from hansa.components.scalars import as_float
from hansa.components.workflows.contribution import failure_of


class EvaluationFiles:
    """Two folders below the run's: `model_shareables` and `result_shareables`; each file is a DXO's bytes.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.models = folder / AppConstants.CROSS_VAL_MODEL_DIR_NAME
        self.results = folder / AppConstants.CROSS_VAL_RESULTS_DIR_NAME

    def begin(self) -> None:
        """Empty both."""
        for each in (self.models, self.results):
            shutil.rmtree(each, ignore_errors=True)
            each.mkdir(parents=True)

    def keep_model(self, owner: str, dxo: DXO) -> None:
        """Write a model."""
        (self.models / _file_name(owner)).write_bytes(dxo.to_bytes())

    def model(self, owner: str) -> DXO:
        """A model that was written, in arrays of its own."""
        return from_bytes((self.models / _file_name(owner)).read_bytes())

    def keep_result(self, site: str, owner: str, *, dxo: DXO) -> Path:
        """Write what came of a model on a site's data; returns the file."""
        path = self.results / _file_name(f"{site}_{owner}")
        path.write_bytes(dxo.to_bytes())
        return path

    def drop_models(self) -> None:
        """Delete the models."""
        shutil.rmtree(self.models, ignore_errors=True)


class EvaluationRecord:
    """What came of each model on each site's data: in files, and in the run's history.

    Args:
        files: Where results go.
        history: The run's history, if the engine keeps one.

    Attributes:
        paths: Site to owner to the file of the result, or to {} after an error.
    """

    def __init__(self, files: EvaluationFiles, history: History | None) -> None:
        self._files = files
        self._history = history
        self.paths: dict[str, dict[str, Any]] = {}  # Any: a file's path, or {}

    def take(self, site: str, owner: str, *, result: Shareable) -> str | None:
        """Keep a site's result for the model of an owner; returns why there is none, if it failed."""
        dxo, error = dxo_of(result), failure_of(result)
        if error is None and dxo is None:
            error = "its answer holds no metrics"
        if error is not None or dxo is None:
            self.unmeasured(site, owner, error=str(error))
            return error
        self.paths.setdefault(site, {})[owner] = str(self._files.keep_result(site, owner, dxo=dxo))
        self._tell(owner, site, metrics=_numbers(dxo))
        return None

    def unmeasured(self, site: str, owner: str, *, error: str) -> None:
        """A site has no result for the model of an owner."""
        self.paths.setdefault(site, {})[owner] = {}
        self._tell(owner, site, error=error)

    def no_model(self, site: str, reason: str) -> None:
        """A site has no model of its own."""
        self._tell(site, "", error=f"no model: {reason}")

    def _tell(self, owner: str, site: str, *, metrics: Mapping[str, float] = {}, error: str | None = None) -> None:
        if self._history is not None:
            self._history.evaluated(owner, site, metrics=metrics, error=error)


def _numbers(dxo: DXO) -> dict[str, float]:
    """The metrics of a result that are numbers."""
    found = {str(name): as_float(value) for name, value in dxo.data.items()}
    return {name: value for name, value in found.items() if value is not None}


def _file_name(name: str) -> str:
    return name.replace("/", "_")
