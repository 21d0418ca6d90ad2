"""The real command in processes of its own: output, exit codes, and one line for every mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hansa

pytestmark = pytest.mark.slow

PARTS = """
import threading
from hansa.apis.dxo import from_shareable
from hansa.apis.executor import Executor


class Adds(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        dxo = from_shareable(shareable)
        for value in dxo.data.values():
            value += 1
        fl_ctx.get_engine().get_component("analytic_sender").add_scalar("loss", 0.5)
        return shareable


class Fails(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        raise ValueError("bad label")


class Waits(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        print(fl_ctx.get_identity_name(), "works", flush=True)
        threading.Event().wait(60)
        return shareable
"""

MAKE = """
import sys
import numpy as np
from hansa.jobs import fed_avg
import parts
for name, cls in (("adds", parts.Adds), ("fails", parts.Fails), ("waits", parts.Waits)):
    fed_avg({"w": np.zeros(2, np.float32)}, executor=cls, rounds=2, name=name).save(sys.argv[1] + "/" + name)
"""


class Cli:
    """Runs `python -m hansa.cli.main` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = str(Path(hansa.__file__).parents[1])
        self.environment = {**os.environ, "HANSA_HOME": str(folder / "home"), "PYTHONPATH": source, "COLUMNS": "200"}
        self.environment.pop("FORCE_COLOR", None)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "hansa.cli.main", *arguments)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "parts.py").write_text(PARTS)
    (folder / "make.py").write_text(MAKE)
    cli = Cli(folder)
    made = cli.python("make.py", str(folder))
    assert made.returncode == 0, made.stderr
    return cli


@pytest.fixture(scope="module")
def done(cli: Cli) -> dict[str, str]:
    """The summary of a run that is there."""
    result = cli("simulate", "adds", "-n", "2", "--json", "--seed", "3")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    facts: dict[str, str] = json.loads(result.stdout)
    return facts


def complaint(result: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a command that went wrong."""
    assert result.returncode == code, (result.stdout, result.stderr)
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("hansa: ")
    return line


def test_the_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"hansa {hansa.__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("runs",)])
def test_without_a_verb_there_is_help(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli(*arguments)
    assert "Usage: hansa" in result.stdout
    assert result.stderr == ""
    assert result.returncode in (0, 2)
    for verb in ("demo", "simulate", "runs") if arguments != ("runs",) else ("list", "show", "plot", "rm"):
        assert verb in result.stdout


def test_simulate_prints_the_run_as_people_read_it(cli: Cli) -> None:
    result = cli("simulate", "adds", "--site", "anna", "--site", "berta", "--home", "elsewhere")
    assert (result.returncode, result.stderr) == (0, "")
    assert "COMPLETED" in result.stdout
    assert "2 sites" in result.stdout
    [folder] = (cli.folder / "elsewhere").iterdir()
    assert {"run.json", "history.jsonl", "model.safetensors", "log.txt"} <= {file.name for file in folder.iterdir()}
    shown = cli("runs", "show", str(folder), "--json")
    assert json.loads(shown.stdout)["config"]["sites"] == ["anna", "berta"]


def test_simulate_prints_json_and_nothing_else(done: dict[str, str]) -> None:
    assert done["status"] == "COMPLETED"
    assert done["sites"] == ["site-1", "site-2"]
    assert (done["rounds"], done["seed"], done["metrics"]) == (2, 3, {"loss": 0.5})


def test_runs_list_and_show(cli: Cli, done: dict[str, str]) -> None:
    listed = cli("runs", "list")
    assert done["id"] in listed.stdout
    assert "loss 0.5000" in listed.stdout
    assert done["id"] in [run["id"] for run in json.loads(cli("runs", "list", "--json").stdout)]
    shown = cli("runs", "show", done["id"])
    assert "COMPLETED" in shown.stdout
    assert "seed 3" in shown.stdout
    details = json.loads(cli("runs", "show", done["id"], "--json").stdout)
    assert [record["counted"] for record in details["rounds"]] == [{"site-1": 1.0, "site-2": 1.0}] * 2
    assert details["problem_list"] == []


def test_no_runs_is_no_error(cli: Cli) -> None:
    result = cli("runs", "list", "--home", "nowhere")
    assert (result.returncode, result.stdout) == (0, "no runs in nowhere\n")
    assert cli("runs", "list", "--home", "nowhere", "--json").stdout == "[]\n"


def test_runs_plot_and_rm(cli: Cli) -> None:
    facts = json.loads(cli("simulate", "adds", "-n", "1", "--json", "--home", "plots").stdout)
    plotted = cli("runs", "plot", "last", "--home", "plots")
    assert (plotted.returncode, plotted.stderr) == (0, "")
    assert Path(cli.folder, plotted.stdout.strip()).read_bytes().startswith(b"\x89PNG")
    plotted = cli("runs", "plot", facts["id"], facts["id"], "--home", "plots", "-o", "both.svg", "--metric", "loss")
    assert plotted.stdout == "both.svg\n"
    assert "<svg" in (cli.folder / "both.svg").read_text()
    removed = cli("runs", "rm", facts["id"], "--home", "plots")
    assert removed.returncode == 0
    assert facts["id"] in removed.stdout
    assert list((cli.folder / "plots").iterdir()) == []


def test_runs_compare_and_a_plot_of_groups(cli: Cli) -> None:
    for name, seed in (("adds", "0"), ("adds", "1"), ("adds", "2")):
        assert cli("simulate", name, "-n", "2", "--seed", seed, "--home", "many").returncode == 0
    runs = sorted(folder.name for folder in (cli.folder / "many").iterdir())
    compared = cli("runs", "compare", *runs, "--home", "many")
    assert (compared.returncode, compared.stderr) == (0, "")
    first, head, row = compared.stdout.splitlines()
    assert first == "loss of the global model, lower is better"
    assert head.split() == ["run", "sites", "rounds", "seeds", "best", "in", "round", "last", "seconds"]
    assert row.split()[:7] == ["adds", "2", "2", "0-2", "0.5000", "±", "0.0000"]
    assert len(cli("runs", "compare", *runs, "--home", "many", "--no-group").stdout.splitlines()) == 2 + len(runs)
    facts = json.loads(cli("runs", "compare", *runs, "--home", "many", "--json", "--higher").stdout)
    assert (facts["metric"], facts["lower_is_better"], facts["notes"]) == ("loss", False, [])
    assert facts["rows"][0]["runs"] == runs
    drawn = cli("runs", "plot", *runs, "--home", "many", "-o", "group.svg", "--title", "Ten", "--label", "Adds")
    assert (drawn.returncode, drawn.stdout, drawn.stderr) == (0, "group.svg\n", "")
    assert ">Adds (3 runs): 0.5000 ± 0.0000<" in (cli.folder / "group.svg").read_text()
    assert ">Ten<" in (cli.folder / "group.svg").read_text()
    assert "label: give one per run (3), not 1" in complaint(
        cli("runs", "plot", *runs, "--home", "many", "--label", "Adds", "--no-group"), 2
    )
    assert "no metric 'los'; there are: loss" in complaint(
        cli("runs", "compare", *runs, "--home", "many", "--metric", "los"), 2
    )


def test_a_run_that_fails_is_one_line_with_site_cause_and_folder(cli: Cli) -> None:
    result = cli("simulate", "fails", "-n", "2", "--home", "failed")
    line = complaint(result, 1)
    assert "site-1" in line
    assert "ValueError: bad label (parts.py:18)" in line
    [folder] = (cli.folder / "failed").iterdir()
    assert line.endswith(f"[{folder}]")
    assert "bad label" in (folder / "log.txt").read_text()
    shown = cli("runs", "show", "last", "--home", "failed")
    assert shown.returncode == 0
    assert "FAILED" in shown.stdout
    assert "refused: site-1: EXECUTION_EXCEPTION ValueError: bad label (parts.py:18)" in shown.stdout


def test_an_interrupt_ends_at_once_with_one_line_and_the_record(cli: Cli) -> None:
    # A program that was started in the background inherits that interrupts are ignored; a person's shell does not.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from hansa.cli.main import main; main(['simulate', 'waits', '-n', '2'])"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=cli.folder, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == "site-1 works\n"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)

    assert running.returncode == 130
    assert errors == "hansa: interrupted from the keyboard; the record of a run that had begun is kept\n"
    record = next((cli.folder / "home" / "runs").glob("*-waits/run.json"))
    assert json.loads(record.read_text())["status"] == "ABORTED"


def test_debug_shows_the_traceback_too_wherever_it_stands(cli: Cli) -> None:
    for arguments in (("--debug", "runs", "show", "nothing"), ("runs", "show", "nothing", "--debug")):
        result = cli(*arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("Traceback")
        assert result.stderr.splitlines()[-1].startswith("hansa: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("simulate", "nothing", "-n", "2"), "nothing"),
        (("simulate", "adds"), "say how many sites"),
        (("simulate", "adds", "-n", "2", "--site", "a"), "not both"),
        (("simulate", "adds", "-n", "0"), "at least one site"),
        (("simulate", "adds", "-n", "two"), "'-n' / '--sites'"),
        (("simulate", "adds", "-n", "1", "--seed", "-1"), "seed"),
        (("simulate", "adds", "-n", "1", "--sed", "1"), "--sed"),
        (("simulate",), "folder"),
        (("simulat", "adds"), "simulat"),
        (("runs", "show", "nothing"), "nothing"),
        (("runs", "rm", "parts.py"), "parts.py"),
        (("runs", "plot", "last", "--metric", "los", "--home", "none"), "no run 'last'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_of_the_users_is_one_line_and_exit_code_2(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    assert words in complaint(cli(*arguments), 2)


def test_a_mistake_in_a_config_names_file_and_key(cli: Cli) -> None:
    broken = cli.folder / "broken"
    app = broken / "config"
    app.mkdir(parents=True)
    (app / "config_fed_server.json").write_text('{"format_version": 2, "workflows": [{"path": "nowhere.Flow"}]}')
    (app / "config_fed_client.json").write_text(
        '{"format_version": 2, "executors": [{"tasks": ["train"], "executor": {"path": "nowhere.Work"}}]}'
    )
    line = complaint(cli("simulate", "broken", "-n", "1"), 2)
    assert "config_fed_server.json: workflows[0]" in line
    assert "nowhere" in line
