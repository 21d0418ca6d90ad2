"""Classes of notebooks, scripts and packages, saved with a job and found again by another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hansa
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.errors import ConfigError
from hansa.jobs import Component, fed_avg
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode
from hansa.jobs.job import Job
from hansa.jobs.source_files import portable

CELLS = [
    "from hansa.apis.executor import Executor\nimport hansa.jobs",
    "from hansa.jobs import fed_avg\nfrom zz_beside import D",
    "SCALE = 1\nunused = open('never.txt', 'w').close()",
    "SCALE = 2",
    "class Part(Executor):\n    factor = SCALE * D\n    def execute(self, a, b, c, d): return b",
    "class Trainer(Part):\n    pass",
    "fed_avg({'w': [1.0]}, executor=Trainer).save('job')\nprint('work is done')",
]

# What IPython does for every cell: it keeps the input, and compiles it under a name that the line cache knows.
RUN_CELLS = """
import linecache, sys
main = sys.modules["__main__"].__dict__
main.update(_ih=[""] if {history} else None)
for number, cell in enumerate({cells!r}):
    name = f"/tmp/ipykernel_12/{{number}}.py"
    linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
    if main["_ih"] is not None:
        main["_ih"].append(cell)
    exec(compile(cell, name, "exec"), main)
"""

SCRIPT = """
from hansa.apis.executor import Executor
from hansa.jobs import fed_avg
import {module} as beside

LR = 0.5

class Trainer(Executor):
    factor = LR * beside.D
    def execute(self, a, b, c, d): return b

job = fed_avg({{"w": [1.0]}}, executor=Trainer)
job.save("job")
print("work is done")
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env={"PYTHONPATH": str(Path(hansa.__file__).parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def executor_of(job: Path) -> tuple[type, str]:
    """The executor of a saved job, built as a run would build it, and the names of the files it came with."""
    app = Job.load(job).server_app
    custom = job / "app" / "custom"
    with CustomCode(custom) as code:
        built = Builder(ClassPolicy(), custom=code.modules).client(app.config(Side.CLIENT, num_sites=1))
    names = sorted(path.relative_to(custom).as_posix() for path in custom.rglob("*.py"))
    return type(built.executors["train"]), " ".join(names)


@pytest.mark.parametrize("history", [True, False])
def test_classes_of_a_notebook_travel_as_the_source_they_need(tmp_path: Path, history: bool) -> None:
    (tmp_path / "zz_beside.py").write_text("D = 21\n")
    done = python(tmp_path, "-c", RUN_CELLS.format(cells=CELLS, history=history))
    assert (done.stdout, done.stderr) == ("work is done\n", "")
    (tmp_path / "never.txt").unlink()
    cls, files = executor_of(tmp_path / "job")
    assert (cls.__module__, cls.factor, files) == ("notebook_cells", 42, "notebook_cells.py zz_beside.py")  # type: ignore[attr-defined]
    assert not (tmp_path / "never.txt").exists()


def test_a_class_that_was_defined_again_is_not_the_one_of_the_job(tmp_path: Path) -> None:
    cells = [*CELLS[:-1], "old = Trainer\nclass Trainer(Part): ...", "fed_avg({'w': [1.0]}, executor=old).save('job')"]
    (tmp_path / "zz_beside.py").write_text("D = 21\n")
    done = python(tmp_path, "-c", RUN_CELLS.format(cells=cells, history=True))
    assert "Trainer was defined again since; make the job anew" in done.stderr.splitlines()[-1]


def test_a_class_of_the_prompt_cannot_travel(tmp_path: Path) -> None:
    (tmp_path / "zz_beside.py").write_text("D = 21\n")
    done = python(tmp_path, "-c", "\n".join(CELLS))
    assert done.stderr.splitlines()[-1].endswith(
        "Trainer is defined at the prompt and cannot travel; move it to the top of a .py file or run with workers=0"
    )


def test_a_script_without_a_guard_leaves_its_work_behind(tmp_path: Path) -> None:
    (tmp_path / "zz_layers").mkdir()
    (tmp_path / "zz_layers" / "size.py").write_text("import zz_more\nD = 4\n")
    (tmp_path / "zz_more.py").write_text("import hansa\n")
    (tmp_path / "hansa").mkdir()  # only called like what is imported: without __init__.py it is found last
    (tmp_path / "hansa" / "notes.py").write_text("")
    (tmp_path / "zz_train.py").write_text(SCRIPT.format(module="zz_layers.size"))
    assert python(tmp_path, "zz_train.py").stdout == "work is done\n"
    cls, files = executor_of(tmp_path / "job")  # the script's own work would save a job and print again
    assert (cls.__module__, cls.factor) == ("zz_train", 2.0)  # type: ignore[attr-defined]
    assert files == "zz_layers/size.py zz_more.py zz_train.py"


def test_a_module_that_was_run_from_its_package_keeps_its_place(tmp_path: Path) -> None:
    package = tmp_path / "zz_project"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "size.py").write_text("D = 4\n")
    (package / "inner" / "train.py").write_text(SCRIPT.format(module="zz_project.inner.size"))
    done = python(tmp_path, "-m", "zz_project.inner.train")
    assert (done.stdout, done.stderr) == ("work is done\n", "")
    cls, files = executor_of(tmp_path / "job")
    assert (cls.__module__, cls.factor) == ("zz_project.inner.train", 2.0)  # type: ignore[attr-defined]
    assert files == "zz_project/__init__.py zz_project/inner/size.py zz_project/inner/train.py"


def test_a_class_from_inside_a_function_or_a_class_cannot_travel(tmp_path: Path) -> None:
    class Inner(Executor):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            return data

    job = fed_avg({"w": [1.0]}, executor=Inner)
    with pytest.raises(ConfigError) as caught:
        job.save(tmp_path / "job")
    assert str(caught.value) == (
        "classes: Inner is defined inside a function and cannot travel; move it to the top of a .py file or run with "
        "workers=0"
    )
    assert not (tmp_path / "job").exists()


def test_a_class_of_the_other_side_need_not_travel(tmp_path: Path) -> None:
    class Listener(FLComponent): ...

    job = fed_avg({"w": [1.0]}, executor=Component("x.Y"), server_components=[Component(Listener)])
    assert portable(job, only=Side.CLIENT)["app"].client == job.apps["app"].client
    with pytest.raises(ConfigError, match="Listener is defined inside a function"):
        portable(job, only=Side.SERVER)
    with pytest.raises(ConfigError, match="Listener is defined inside a function"):
        portable(job)
