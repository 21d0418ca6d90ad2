"""The table of bad input: one deviation from a job that is in order, and the one line that it must give."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from acceptance.bad_folders import CLIENT, CODE, META, SERVER, SITE_CODE, WEIGHTS, Change, Json, Spoiled, write_tensors

_SERVER = "config_fed_server.json: "
_CLIENT = "config_fed_client.json: "


class Case(NamedTuple):
    """One deviation.

    Attributes:
        name: What it is called.
        says: What the line must say; it stands in `docs/errors.md`, too. Empty: there is no line, all is well.
        words: What else must be in the line: file, key, site, round.
        change: Spoils the folder.
        trouble: What site-2 does in round 1: a function of `bad_trainer`.
        code: The exit code.
        kept: The status in the record of the run; empty: there must be none.
        folder: Which folder is run.
        arguments: Of the command.
        environment: Of the command; `FOLDER` stands for the case's folder, as it does in `prefix`.
        prefix: What the command is an argument of.
    """

    name: str
    says: str
    words: tuple[str, ...] = ()
    change: Change = lambda job: None
    trouble: str = ""
    code: int = 2
    kept: str = ""
    folder: str = "job"
    arguments: tuple[str, ...] = ("-n", "2")
    environment: Mapping[str, str] = {}
    prefix: tuple[str, ...] = ()


def of_file(file: str, content: bytes | None) -> Change:
    """A file has this content, or is not there."""

    def change(job: Spoiled) -> None:
        if content is None:
            del job.files[file]
        else:
            job.files[file] = content

    return change


def of_weights(damage: Callable[[bytes], bytes]) -> Change:
    def change(job: Spoiled) -> None:
        job.files[WEIGHTS] = damage(job.files[WEIGHTS])

    return change


def flipped(data: bytes, index: int) -> bytes:
    """The same bytes with one bit changed."""
    damaged = bytearray(data)
    damaged[index] ^= 64
    return bytes(damaged)


def server(**keys: Any) -> Change:
    return lambda job: job.server.update(keys)


def client(**keys: Any) -> Change:
    return lambda job: job.client.update(keys)


def meta(**keys: Any) -> Change:
    return lambda job: job.meta.update(keys)


def flow(**args: Any) -> Change:
    return lambda job: job.server["workflows"][0]["args"].update(args)


def executor(**keys: Any) -> Change:
    return lambda job: job.client["executors"][0]["executor"].update(keys)


def component(index: int, **keys: Any) -> Change:
    return lambda job: job.server["components"][index].update(keys)


def without(side: str, *path: Any) -> Change:
    """A key is not there."""

    def change(job: Spoiled) -> None:
        *above, last = path
        place: Any = job.files[side]
        for step in above:
            place = place[step]
        del place[last]

    return change


def twice(job: Spoiled) -> None:
    job.client["executors"] *= 2


def no_finite_weights(job: Spoiled) -> None:
    job.files[WEIGHTS] = write_tensors(job.folder, {"w": np.full((3, 4), np.nan, np.float32)})


_CHAINS: list[Json] = [
    {"tasks": ["train"], "filters": [{"name": "ExcludeVars"}]},
    {"tasks": ["submit_model", "train"], "filters": [{"name": "ExcludeVars"}]},
]

FILES = [
    Case("no folder", "there is no such folder", ("nothing: ",), folder="nothing"),
    Case("no job", "is no job: it has neither meta.json nor a folder 'config'", ("job/app/custom: ",),
         folder="job/app/custom"),
    Case("no JSON", "bad JSON in line 2, column 17: Expecting value", (_SERVER,),
         of_file(SERVER, b'{"format_version": 2,\n  "workflows": [}')),
    Case("no UTF-8", "cannot be read: 'utf-8' codec", (_SERVER,), of_file(SERVER, b'{"x": "\xe9"}')),
    Case("no object", "must be an object, not a list", (_CLIENT,), of_file(CLIENT, b"[]")),
    Case("no config", "there is no such file", (_CLIENT,), of_file(CLIENT, None)),
    Case("a key twice", "key 'executors' stands twice in one object", (_CLIENT,),
         of_file(CLIENT, b'{"format_version": 2, "executors": [], "executors": []}')),
    Case("truncated weights", "no weights can be read from it: the tensors end at 64, but there are 56 bytes of data",
         ("initial.safetensors",), of_weights(lambda data: data[:-8]), code=1, kept="FAILED"),
    Case("a flipped bit in the weights", "no weights can be read from it: a tensor file of 192 bytes cannot",
         ("initial.safetensors",), of_weights(lambda data: flipped(data, 7)), code=1, kept="FAILED"),
    Case("no weights", "there are no initial weights of that name", ("initial.safetensors", "source"),
         of_file(WEIGHTS, None), code=1, kept="FAILED"),
    Case("NaN in the weights", "tensor 'w' has NaN at [0, 0]", ("site-1", "round 0"), no_finite_weights,
         code=1, kept="FAILED"),
]  # fmt: skip

KEYS = [
    Case("unknown key", "unknown key; did you mean 'task_data_filters'?", (_CLIENT, "task_dta_filters"),
         client(task_dta_filters=[])),
    Case("unknown key of a component", "unknown key; did you mean 'args'?", (_SERVER, "workflows[0].arguments"),
         lambda job: job.server["workflows"][0].update(arguments={})),
    Case("unknown key of the meta file", "unknown key; did you mean 'min_clients'?", (META, "min_client:"),
         meta(min_client=2)),
    Case("missing executors", "missing key", (_CLIENT, "executors"), without(CLIENT, "executors")),
    Case("missing executor", "missing key", (_CLIENT, "executors[0].executor"),
         without(CLIENT, "executors", 0, "executor")),
    Case("missing path", "a component needs a 'path' or a 'name'", (_CLIENT, "executors[0].executor"),
         without(CLIENT, "executors", 0, "executor", "path")),
    Case("missing format_version", "missing key", (_SERVER, "format_version"), without(SERVER, "format_version")),
    Case("old format_version", "must be 2, not 1", (_CLIENT, "format_version"), client(format_version=1)),
    Case("format_version as a text", "must be 2, not '2'", (_SERVER, "format_version"), server(format_version="2")),
    Case("no workflows", "must not be empty", (_SERVER, "workflows"), server(workflows=[])),
    Case("an object for a list", "must be a list, not an object", (_SERVER, "components"), server(components={})),
    Case("no id", "a component needs an id that is not empty", (_SERVER, "components[0].id"),
         without(SERVER, "components", 0, "id")),
    Case("an id twice", "is taken by components[0]", (_SERVER, "components[2].id"),
         component(0, id="aggregator")),
    Case("two executors for a task", "task 'train' has two executors: this one and executors[0]",
         (_CLIENT, "executors[1].tasks"), twice),
    Case("two chains for a task's results", "task 'train' has two filter chains", (_CLIENT, "task_result_filters[1]"),
         client(task_result_filters=_CHAINS)),
    Case("two chains for a task's data", "task 'train' has two filter chains", (_SERVER, "task_data_filters[1]"),
         server(task_data_filters=_CHAINS)),
    Case("no such variable", "unknown variable {rounds}", (_SERVER, "workflows[0].args.num_rounds"),
         flow(num_rounds="{rounds}")),
    Case("no such app", "there is no folder 'ap' beside meta.json", (META, "deploy_map.ap"),
         meta(deploy_map={"ap": ["@ALL"]})),
    Case("no app for a site", "no app goes to site-2", ("deploy_map",), meta(deploy_map={"app": ["server", "site-1"]})),
    Case("no app for the server", "no app goes to the server", ("deploy_map",),
         meta(deploy_map={"app": ["site-1", "site-2"]})),
]  # fmt: skip

PARTS = [
    Case("no such module", "there is no module 'trainr'; did you mean 'trainer'?",
         (_CLIENT, "executors[0].executor.path"), executor(path="trainr.Trainer")),
    Case("no such class", "module trainer has no 'Trainr'; did you mean 'Trainer'?",
         (_CLIENT, "executors[0].executor.path"), executor(path="trainer.Trainr")),
    Case("no such name", "no component is called 'Aggregatr'; did you mean 'Aggregator'?",
         (_SERVER, "components[2].name"), component(2, name="Aggregatr")),
    Case("no executor", "an executor must be an Executor, and Thread is none", (_CLIENT, "executors[0].executor"),
         executor(path="threading.Thread", args={})),
    Case("unknown argument", "ScatterAndGather takes no argument 'num_round'; did you mean 'num_rounds'?",
         (_SERVER, "workflows[0].args.num_round"), flow(num_round=3)),
    Case("missing argument", "Trainer needs the argument 'troubles'", (_CLIENT, "executors[0].executor.args"),
         executor(args={})),
    Case("an argument out of range", "cannot build ScatterAndGather: ValueError: num_rounds must be >= 0, but got -1",
         (_SERVER, "workflows[0]"), flow(num_rounds=-1)),
    Case("an argument of another type", "cannot build ScatterAndGather: TypeError: num_rounds must be int",
         (_SERVER, "workflows[0]"), flow(num_rounds="3")),
    Case("a sampling that is none", "must be a number above 0 and at most 1, not 2",
         (_SERVER, "workflows[0].args.sampling.fraction"), flow(sampling={"fraction": 2})),
    Case("a constructor that raises", "cannot build Picky: FileNotFoundError: no data in /data/train (trainer.py:",
         (_CLIENT, "executors[0].executor"), executor(path="trainer.Picky")),
    Case("code that is no Python", "cannot import trainer: SyntaxError: invalid syntax (trainer.py:2)",
         (_CLIENT, "executors[0].executor.path"), of_file(CODE, b"class Trainer:\n  def x(:\n")),
    Case("a package that is missing", "cannot import trainer: ModuleNotFoundError: No module named 'nosuch'",
         (_CLIENT, "executors[0].executor.path"), of_file(CODE, b"import nosuch\n")),
    Case("code that exits", "cannot import trainer: SystemExit: 0 (trainer.py:1)",
         (_CLIENT, "executors[0].executor.path"), of_file(CODE, b"raise SystemExit(0)\n")),
    Case("code that ends the process", "worker 0 cannot start: ended with exit code 0", (),
         of_file(CODE, b"import os\nos._exit(0)\n"), code=1),
    Case("a module of the standard library", "shadows the standard library module 'random'",
         ("job/app/custom/random.py",), of_file("app/custom/random.py", b"")),
    Case("a module of an installed package", "shadows the installed package 'numpy'", ("job/app/custom/numpy.py",),
         of_file("app/custom/numpy.py", b"")),
    Case("a module that is called hansa", "shadows Hansa itself", ("job/app/custom/hansa",),
         of_file("app/custom/hansa/net.py", b"")),
    Case("no aggregator", "there is no component 'aggregatr'; did you mean 'aggregator'?",
         (_SERVER, "workflows[0].args.aggregator_id"), flow(aggregator_id="aggregatr")),
    Case("no persistor", "there is no component 'persistor'", (_SERVER, "workflows[0].args.persistor_id"),
         without(SERVER, "components", 0)),
    Case("no such generator", "there is no component 'shareable_generator'",
         (_SERVER, "workflows[0].args.shareable_generator_id"), component(1, disabled=True)),
    Case("a part of another kind", "component 'persistor' must be a Aggregator, but it is a NPModelPersistor",
         ("ScatterAndGather",), flow(aggregator_id="persistor"), code=1, kept="FAILED"),
]  # fmt: skip

SITES = [
    Case("zero sites", "a federation needs at least one site", ("sites",), arguments=("-n", "0")),
    Case("sites unsaid", "say how many sites with -n, or name them with --site", ("sites",), arguments=()),
    Case("sites said twice", "give either -n or --site, not both", ("sites",), arguments=("-n", "1", "--site", "a")),
    Case("a site's name", "name 'a b' of type client is ill-formed", ("sites",), arguments=("--site", "a b")),
    Case("one name for two sites", "'a' is given twice", ("sites",), arguments=("--site", "a", "--site", "a")),
    Case("the server's name", "'server' is the server's name", ("sites",), arguments=("--site", "server")),
    Case("min above sites", "the job needs 3 sites, the run has 2", ("min_clients",), meta(min_clients=3)),
    Case("min of none", "must be at least 1, not 0", (META, "min_clients"), meta(min_clients=0)),
    Case("a site that must be there", "the run has no site 'berlin'", ("mandatory_clients",),
         meta(mandatory_clients=["berlin"])),
    Case("a round that can never begin", "the workflow needs 3 sites, the run has 2",
         (_SERVER, "workflows[0].args.min_clients"), flow(min_clients=3)),
    Case("a round that can never count", "2 of 2 results counted, 3 needed", ("round 0",),
         flow(min_counted=3), code=1, kept="FAILED"),
    Case("a number of workers", "Invalid value for '-w' / '--workers'", arguments=("-n", "2", "-w", "-1")),
    Case("HANSA_WORKERS", "must be an integer >= 0, not 'many'", ("HANSA_WORKERS",),
         environment={"HANSA_WORKERS": "many"}),
    Case("seed", "must be an integer >= 0, not -1", ("seed",), arguments=("-n", "2", "--seed", "-1")),
    Case("threads", "Invalid value for '--threads'", arguments=("-n", "2", "--threads", "0")),
    Case("a key of times", "unknown key 'compute'; did you mean 'compute_s'?", ("times.json", "default"),
         of_file("times.json", b'{"default": {"compute": 1}}'), arguments=("-n", "2", "--times", "job/times.json")),
    Case("no file of times", "there is no such file", ("times.json",), arguments=("-n", "2", "--times", "times.json")),
    Case("no home", "cannot write runs to /dev/null", ("HANSA_HOME",), arguments=("-n", "2", "--home", "/dev/null")),
]  # fmt: skip


def at_site_2(trouble: str, says: str, name: str = "", **more: Any) -> Case:
    """What site-2 does in round 1 fails the run, as both sites must count."""
    words = ("site-2: ", "round 1: 1 of 2 results counted, 2 needed")
    return Case(name or trouble.replace("_", " "), says, words, trouble=trouble, code=1, kept="FAILED", **more)


RESULTS = [
    at_site_2("raises", "EXECUTION_EXCEPTION ValueError: bad label (trainer.py:"),
    at_site_2("raises_lines", "ValueError: first line second line"),
    at_site_2("raises_exit", "EXECUTION_EXCEPTION SystemExit: 3 (trainer.py:"),
    at_site_2("raises_runtime_error", "EXECUTION_EXCEPTION RuntimeError: the model has diverged (trainer.py:"),
    at_site_2("raises_memory_error", "EXECUTION_EXCEPTION MemoryError (trainer.py:"),
    at_site_2("raises_unreadable", "EXECUTION_EXCEPTION Odd (trainer.py:"),
    at_site_2("recurses", "EXECUTION_EXCEPTION RecursionError: maximum recursion depth exceeded"),
    at_site_2("reads_truncated", "EXECUTION_EXCEPTION DecodeError: the bytes break off: "),
    at_site_2("returns_none", "EXECUTION_RESULT_ERROR Trainer.execute returned NoneType, not a Shareable"),
    at_site_2("returns_dict", "EXECUTION_RESULT_ERROR Trainer.execute returned dict, not a Shareable"),
    at_site_2("returns_dxo", "EXECUTION_RESULT_ERROR Trainer.execute returned DXO, not a Shareable"),
    at_site_2("returns_no_dxo", "the Shareable holds no DXO: its content type is None"),
    at_site_2("returns_object", "cannot encode DXO.data.w: a _thread.lock has no form on the wire"),
    at_site_2("returns_object_in_meta", "cannot encode net: a _thread.lock has no form on the wire"),
    at_site_2("returns_itself", "cannot encode again.again: it contains itself"),
    at_site_2("nan", "tensor 'w' has NaN at [1, 2]"),
    at_site_2("inf", "tensor 'w' has Inf at [1, 2]"),
    at_site_2("huge", "tensor 'w' has 3e+38 at [1, 2], too large to be summed with weight 1"),
    at_site_2("shape", "tensor 'w' has shape (4, 3), the model has (3, 4)"),
    at_site_2("dtype", "tensor 'w' is of type complex64, the model has float32"),
    at_site_2("missing", "tensor 'b' is missing, the model has it", "missing tensor"),
    at_site_2("extra", "tensor 'head' is not expected", "extra tensor"),
    at_site_2("no_tensors", "is missing, the model has it", "no tensors"),
    at_site_2("text_dtype", "tensor 'w' holds no numbers but <U32"),
    at_site_2("other_kind", "expected data of kind WEIGHTS, but got WEIGHT_DIFF"),
    at_site_2("steps_0", "NUM_STEPS_CURRENT_ROUND is 0, which is not above 0"),
    at_site_2("steps_negative", "NUM_STEPS_CURRENT_ROUND is -1, which is not above 0"),
    at_site_2("steps_1e12", "NUM_STEPS_CURRENT_ROUND is 1e+12, which is above the cap of 1e+09"),
    at_site_2("steps_nan", "NUM_STEPS_CURRENT_ROUND is nan, which is not above 0"),
    at_site_2("steps_text", "NUM_STEPS_CURRENT_ROUND is 'many', not a number"),
]

_ENDS = "EXECUTION_EXCEPTION its process "
ENDS = [  # what ends or blocks the process
    at_site_2("leaves", f"{_ENDS}ended with exit code 0"),
    at_site_2("aborts", f"{_ENDS}killed by SIGABRT"),
    at_site_2("forks_and_leaves", f"{_ENDS}ended with exit code 0"),
    at_site_2("never_returns", "did not answer within 1 s", change=flow(train_timeout=1)),
    at_site_2("never_yields", "did not answer within 1 s", change=flow(train_timeout=1)),
]

HARMLESS = [  # nobody else must feel it
    Case("mutates what it was given", "", trouble="mutates", code=0, kept="COMPLETED"),
    Case("forks", "", trouble="forks", code=0, kept="COMPLETED"),
    Case("fills stdout", "", trouble="fills_stdout", code=0, kept="COMPLETED"),
    Case(
        "leaves a tensor out, as FLARE allows",
        "",
        (),
        component(2, args={"expected_data_kind": "WEIGHTS"}),
        "missing",
        code=0,
        kept="COMPLETED",
    ),
    Case(
        "sites that take 10 hours",
        "",
        (),
        of_file("times.json", b'{"default": {"compute_s": 36000}}'),
        code=0,
        kept="COMPLETED",
        arguments=("-n", "2", "--times", "job/times.json", "--threads", "2"),
    ),
    Case("no room in memory", "", code=0, kept="COMPLETED", arguments=("-n", "2", "--memory-mb", "0")),
]


def greedy(job: Spoiled) -> None:
    job.server["components"].append({"id": "greedy", "path": "trainer.Greedy"})


def at_start(code: str) -> Mapping[str, str]:
    """Python runs this code whenever it starts."""
    return {SITE_CODE: f"import os, sys\nis_worker = 'hansa.runtime.worker' in sys.orig_argv\n{code}\n"}


_MOUNT = 'mkdir "$0" && mount -t tmpfs -o size=1m none "$0" && "$@"'

MACHINE = [
    Case("a worker that says why", "worker 0 cannot start: ended with exit code 7: the licence server is down", (),
         environment=at_start("if is_worker:\n print('the licence server is down', file=sys.stderr)\n os._exit(7)"),
         code=1),
    Case("a worker that is killed", "worker 0 cannot start: killed by SIGABRT", (),
         environment=at_start("if is_worker: os.abort()"), code=1),
    Case("a Python that is not there", "worker 0 cannot start: No such file or directory", (),
         environment=at_start("sys.executable = '/nowhere/python'"), code=1),
    Case("a Python that may not run", "worker 0 cannot start: Permission denied", (),
         environment=at_start("sys.executable = '/dev/null'"), code=1),
    Case("no room for the job", "cannot set up the run: File too large", ("initial.safetensors",),
         of_file(WEIGHTS, bytes(100_000)), prefix=("bash", "-c", 'ulimit -f 64; exec "$@"', "bash")),
    Case("no room for memory files", "no room for 4096 bytes in memory: File too large", (), code=1,
         prefix=("bash", "-c", 'ulimit -f 64; exec "$@"', "bash")),
    Case("a disk that fills up", "cannot keep the run: File too large", ("home/",), greedy, code=1, kept="RUNNING"),
]  # fmt: skip

_UNSHARE = shutil.which("unshare")
if _UNSHARE and subprocess.run([_UNSHARE, "-rm", "true"], capture_output=True, check=False).returncode == 0:
    _IN_1_MB = (_UNSHARE, "-rm", "bash", "-c", _MOUNT, "FOLDER/home")
    MACHINE += [
        Case("a full disk", "cannot keep the run: No space left on device", ("home/",), trouble="fills_disk", code=1,
             environment={"FILL": "FOLDER/home/junk"}, prefix=_IN_1_MB),
        # The weights of 300 KB go to the server, to the workers' common folder, to site-1, and to site-2 no more.
        Case("no room for the sites", "cannot make the sites: [Errno 28] No space left on device",
             ("initial.safetensors",), of_file(WEIGHTS, bytes(300_000)), prefix=_IN_1_MB),
    ]  # fmt: skip

CASES = [*FILES, *KEYS, *PARTS, *SITES, *RESULTS, *ENDS, *HARMLESS, *MACHINE]
