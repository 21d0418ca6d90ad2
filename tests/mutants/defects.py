"""Defects worth planting: each is a mistake that somebody could make in good faith."""

from __future__ import annotations

from run import Mutant

# The files that should notice, not all tests: a defect that only some distant test catches is hard to find again.
BOARD = tuple(f"tests/unit/apis/test_controller_{what}.py" for what in ("broadcast", "send", "relay", "callbacks"))
RULE = ("tests/unit/algorithms/test_fold.py", "tests/unit/components/test_aggregators.py")
WIRE = ("tests/unit/wire/test_hostile_bytes.py",)
FOLD = ("tests/unit/algorithms/test_reading.py", "tests/unit/components/test_source_fold.py")
TIMES = ("tests/scenarios/test_stragglers.py",)
WHOLE = tuple(f"tests/scenarios/test_{what}.py" for what in ("simulate", "counts", "same_bits", "messages", "filters"))
KEPT = tuple(f"tests/unit/runtime/test_{what}.py" for what in ("job_journal", "journal_writer", "kept_results"))

DEFECTS = [
    Mutant(
        "double-count",
        "components/aggregators/dxo_aggregator.py",
        "if self.aggregation_helper.has(site):",
        "if False:",
        RULE,
    ),
    Mutant(
        "fold-in-given-order",
        "algorithms/fold.py",
        "self._sites = sorted(set(targets))",
        "self._sites = list(dict.fromkeys(targets))",
        RULE,
    ),
    Mutant(
        "skipped-round-check",
        "components/aggregators/dxo_aggregator.py",
        "if contribution_round != current_round:",
        "if False:",
        RULE,
    ),
    Mutant(
        "lost-done-callback",
        "apis/task_desk.py",
        "if task.task_done_cb is not None:",
        "if False:",
        BOARD,
    ),
    Mutant(
        "ends-one-answer-early",
        "apis/bcast_manager.py",
        "if len(answered_at) >= self.min_responses else None",
        "if len(answered_at) >= self.min_responses - 1 and answered_at else None",
        BOARD,
    ),
    Mutant(
        "grace-forgotten",
        "apis/bcast_manager.py",
        "return since + self.wait_time_after_min_received + self.task_check_period",
        "return since",
        BOARD,
    ),
    Mutant(
        "anybody-may-answer",
        "apis/task_board.py",
        "if part is None or part.client.name != event.client.name:",
        "if part is None:",
        BOARD,
    ),
    Mutant(
        "same-key-for-every-posting",
        "apis/task_board.py",
        "posting = self.postings[task.name] = self.postings.get(task.name, 0) + 1",
        "posting = 1",
        ("tests/unit/apis/test_task_board.py", *WHOLE),
    ),
    Mutant("overlap-unchecked", "wire/decoder.py", "check_overlap(reader.places)", "pass", WIRE),
    Mutant(
        "filters-share-their-data",
        "runtime/server_side.py",
        "own = copy_structure(data, arrays=writes_input(filters))",
        "own = data",
        WHOLE,
    ),
    Mutant(
        "encoded-for-every-site",
        "runtime/standing.py",
        "                if entry.task is task:\n                    return entry",
        "                if entry.task is task:\n                    return self._new(task)",
        WHOLE,
    ),
    Mutant(
        "unchecked-at-the-source", "algorithms/reading.py", "if not all(map(are_tame, regions)):", "if False:", FOLD
    ),
    Mutant(
        "stale-part-counted",
        "components/aggregators/source_fold.py",
        'if head.get("round") != round_number:',
        "if False:",
        FOLD,
    ),
    Mutant(
        "late-answers-at-once", "runtime/flights.py", "self._start + now + flight.total_s", "self._start + now", TIMES
    ),
    Mutant(
        "cookies-lost",
        "runtime/site_side.py",
        "        reply.set_cookie_jar(jar)\n        return self._send(reply, fl_ctx, jar, pack=pack)",
        "        return self._send(reply, fl_ctx, jar, pack=pack)",
        WHOLE,
    ),
    Mutant(
        "unseeded-execution",
        "runtime/site_side.py",
        "seed_everything(task_seed(self._settings.seed, str(fl_ctx.get_prop(FLContextKey.TASK_ID))))",
        "pass",
        WHOLE,
    ),
    Mutant(
        "event-facts-not-restored",
        "runtime/events.py",
        "_put_back(fl_ctx, facts)",
        "pass",
        ("tests/unit/runtime/test_events.py",),
    ),
    Mutant(
        "controls-of-a-draw-in-full",
        "algorithms/scaffold.py",
        "_moved(state.control, mean_control_diff, float(fraction)",
        "_moved(state.control, mean_control_diff, 1.0",
        ("tests/unit/algorithms/test_scaffold.py",),
    ),
    Mutant(
        "buffers-optimised",
        "components/shareablegenerators/fed_opt.py",
        "if name not in buffers and",
        "if",
        ("tests/unit/components/test_fed_opt_generator.py",),
    ),
    Mutant(
        "checkpoints-may-hold-code",
        "components/torch/checkpoint_file.py",
        "weights_only=True",
        "weights_only=False",
        ("tests/unit/components/torch/test_pt_file_model_persistor.py",),
    ),
    Mutant(
        "acknowledged-before-it-is-durable",
        "runtime/job_journal.py",
        "        late = [number for number in numbers if (site, number) in self._waiting]",
        "        late: list[int] = []",
        KEPT,
    ),
    Mutant(
        "tables-go-with-the-commit",
        "runtime/journal_writer.py",
        "isinstance(entry.row, ResultRow | DecisionRow | OfferRow)",
        "not isinstance(entry.row, CommitRow)",
        KEPT,
    ),
    Mutant(
        "a-damaged-file-is-believed",
        "runtime/kept_results.py",
        "if hashlib.sha256(body).hexdigest().encode() != digest:",
        "if False:",
        KEPT,
    ),
    Mutant(
        "an-older-state-is-restored",
        "runtime/kept_results.py",
        "last = self._kept[-1] if self._kept else None",
        "last = self._kept[0] if self._kept else None",
        KEPT,
    ),
]
