"""The rows of the fault matrix and the tests that hold them: prints the table of docs/what-survives-what.md.

    python tests/fault_matrix.py            prints it
    python tests/fault_matrix.py --write    puts it into the page

`tests/test_docs.py` sees that the page has it, and that each test is there.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "what-survives-what.md"
BEGIN, END = "<!-- fault matrix: begin -->", "<!-- fault matrix: end -->"


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: Its number.
        fault: What happens.
        outcome: What becomes of it.
        tests: Who holds it: `file::function`, below `tests/`; with real processes unless `unit/`.
        note: What there is to say of that.
    """

    name: str
    fault: str
    outcome: str
    tests: tuple[str, ...]
    note: str = ""


_A = "acceptance"
_SERVER = f"{_A}/test_server_survives.py"
_ROWS = f"{_A}/test_fault_rows.py::test_a_row"
_MATRIX = f"{_A}/test_failpoints.py::test_a_process_is_killed"
_SEEDS = f"{_A}/test_faults.py::test_twenty_seeds_lose_nothing"
_LIFE = f"{_A}/test_poc_life.py"
_JOURNAL = "unit/runtime/test_job_journal.py"
_STORE = f"{_A}/test_shared_store.py"

ROWS = (
    Row(
        "F1",
        "kill -9 of the server in a round",
        "the same round goes on, received results count",
        (f"{_SERVER}::test_a_job_survives_the_end_of_the_whole_server", _MATRIX),
    ),
    Row(
        "F2",
        "kill -9 of the job's process on the server",
        "it goes on from the last commit; after three deaths without one the job fails, with the cause",
        (
            f"{_SERVER}::test_a_job_survives_the_death_of_its_process_on_the_server",
            f"{_LIFE}::test_a_job_whose_process_on_the_server_dies_again_and_again_fails_and_leaves_nothing",
            _MATRIX,
        ),
    ),
    Row("F3", "a power cut: everything at once, back in any order", "as F1", (_ROWS, _SEEDS)),
    Row(
        "F4",
        "kill -9 of a site's agent in a task",
        "the task is run again, or its kept result sent; one counts",
        (f"{_A}/test_site_survives.py::test_a_job_survives_the_death_of_a_site", _MATRIX),
    ),
    Row(
        "F5",
        "a job's process at a site dies",
        "it is started anew, three times at most; then the site sits the job out",
        (
            f"{_LIFE}::test_a_killed_job_process_costs_its_result_and_is_started_anew",
            f"{_LIFE}::test_a_job_whose_process_dies_at_every_try_at_one_site_goes_on_without_it",
            _MATRIX,
        ),
    ),
    Row(
        "F6",
        "the network breaks in a large upload",
        "it goes on where it was; at most 4 MB are sent again",
        ("unit/wire/test_blob_transfer.py::test_a_cut_costs_no_more_than_what_was_under_way", _ROWS),
        "bytes are counted over a real TCP proxy",
    ),
    Row("F7", "a half-open connection", "found by heartbeats; the session goes on elsewhere", (_ROWS,)),
    Row(
        "F8",
        "a slow link (64 kB/s, 300 ms), a model that takes longer than any silence is borne",
        "it comes, and no setting was changed",
        (f"{_A}/test_slow_link.py::test_a_large_model_over_a_slow_link",),
    ),
    Row(
        "F9",
        "a straggler",
        "the round closes after its grace; the late result is named and not mixed in",
        (f"{_LIFE}::test_a_round_does_not_wait_for_a_straggler_for_ever",),
    ),
    Row(
        "F10",
        "a result twice, with the same bytes or others",
        "one effect; other bytes are refused, and an incident",
        ("unit/runtime/test_job_journal.py::test_the_same_result_again_counts_once_and_another_one_not_at_all",),
        "our own sites never send other bytes; seen on the server's side alone",
    ),
    Row(
        "F12, F13",
        "a clock that is a day ahead, or set back by a day",
        "no effect; certificates go by the machine's clock, and say so where it is off",
        (_ROWS, "unit/provision/test_kit.py::test_a_certificate_that_has_expired_or_a_clock_a_day_ahead"),
        "the clock is set for programs of Hansa, not for the machine",
    ),
    Row(
        "F14, F15",
        "a full disk, a write that fails: the journal's, the server's, a site's",
        "the job waits and says so, and goes on when the disk takes it; nothing half written is ever seen",
        (_ROWS, "unit/jobs/test_journal_file.py::test_a_full_disk_is_said_and_what_was_kept_is_kept"),
    ),
    Row(
        "F16",
        "a flipped bit in what is kept",
        "found by its digest; the task is run again, or who needs the file stops and says why",
        (
            f"{_A}/test_fault_rows.py::test_a_commit_that_is_damaged_is_never_loaded",
            _ROWS,
            "unit/jobs/test_journal_file.py::test_a_flipped_bit_is_found_or_does_not_matter",
        ),
    ),
    Row(
        "F17",
        "the database restarts under a job",
        "waited for; a commit whose answer was lost is made once",
        (
            f"{_STORE}::test_a_database_that_restarts_under_a_job_costs_nothing",
            "unit/jobs/test_journal_postgres.py::test_a_commit_whose_answer_is_lost_is_made_once",
        ),
    ),
    Row(
        "F29",
        "a restart with running, waiting, paused and aborted jobs",
        "running ones go on, waiting ones wait, paused ones stay paused, aborted ones never revive",
        (
            f"{_SERVER}::test_an_aborted_job_never_revives",
            f"{_SERVER}::test_a_job_rests_and_goes_on",
            f"{_SERVER}::test_a_job_survives_the_end_of_the_whole_server",
        ),
    ),
    Row("F31", "a planned stop", "nothing is lost", (_ROWS, _MATRIX)),
    Row(
        "F33",
        "a server that was paused, and whose place another one has taken",
        "it can write nothing any more, and ends; one that nobody has replaced goes on",
        (f"{_STORE}::test_a_server_that_was_paused_and_overtaken_commits_nothing_and_ends", _ROWS),
    ),
    Row(
        "F34",
        "two servers on one store",
        "the second one is refused",
        (
            f"{_STORE}::test_a_second_server_on_the_store_is_refused",
            "unit/jobs/test_journal_owner.py::test_a_second_server_is_refused_until_the_first_one_ends",
        ),
    ),
    Row(
        "F36",
        "too few sites, for good",
        "WAITING with who is missing and until when; then FAILED, with the last good model",
        (
            f"{_LIFE}::test_without_a_quorum_for_too_long_a_job_fails_and_says_who_is_missing",
            f"{_LIFE}::test_without_a_quorum_a_job_waits_and_goes_on_when_sites_are_back",
            f"{_A}/test_resubmit.py::test_a_job_that_lost_its_sites_goes_on_as_another",
            f"{_A}/test_disk_rules.py::test_a_process_that_dies_again_and_again_leaves_the_model_of_its_last_commit",
        ),
    ),
    Row(
        "F37",
        "nobody is let through for a while; a proxy that cuts all connections again and again",
        "sites come back at random moments, and the job completes",
        (_ROWS, f"{_A}/test_namespaces.py"),
    ),
    Row("all", "one to four of these in one job, at random", "nothing lost, the same model, nothing left", (_SEEDS,)),
)


def table() -> str:
    """The table, in Markdown."""
    lines = ["| row | what happens | what becomes of it | held by |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        tests = ", ".join(f"`{test.removeprefix('acceptance/')}`" for test in dict.fromkeys(row.tests))
        lines.append(f"| {row.name} | {row.fault} | {row.outcome} | {tests}{f' ({row.note})' if row.note else ''} |")
    return "\n".join(lines)


def missing() -> list[str]:
    """Tests that are named here and are not there."""
    found = []
    for name in dict.fromkeys(test for row in ROWS for test in row.tests):
        file, _, function = name.partition("::")
        path = TESTS / file
        functions = _functions(path) if path.exists() else set()
        if not path.exists() or (function and function not in functions):
            found.append(name)
    return found


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def main() -> None:
    """Print the table, or put it into the page."""
    if "--write" in sys.argv:
        text = PAGE.read_text(encoding="utf-8")
        before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
        PAGE.write_text(f"{before}\n{table()}\n{after}", encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
