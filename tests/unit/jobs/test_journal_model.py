"""A journal against a dict: whatever is written, in whatever order, with servers that come and go."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import DecisionRow, FateRow, ForgetRow, OfferRow, Outcome, PurgeRow, ResultRow
from journal_parts import commit, decision, offer, part, result

JOBS = st.sampled_from(["0001-a", "0002-b"])
POSTINGS = st.integers(0, 3)
SITES = st.sampled_from(["site-1", "site-2"])
TASKS = st.lists(st.sampled_from([f"0/train/{posting}" for posting in range(4)]), max_size=2)
VALUES = st.binary(max_size=3)

Kept = DecisionRow | OfferRow | ResultRow | FateRow


class JournalMachine(RuleBasedStateMachine):
    """`rows[job, kind, key]` is (row, version of the last commit when it was written)."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal.open(Path(self.folder.name), project="default")
        self.rows: dict[tuple[str, type[Kept], str], tuple[Kept, int]] = {}
        self.commits: dict[str, list[tuple[int, tuple[str, ...]]]] = {}

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            self.folder.cleanup()

    def last(self, job: str) -> int:
        return max((version for version, _ in self.commits.get(job, [])), default=-1)

    def stands(self, job: str, kind: type[Kept], key: str) -> Kept | None:
        return self.rows.get((job, kind, key), (None, 0))[0]

    @rule(job=JOBS, posting=POSTINGS, value=VALUES)
    def decide(self, job: str, posting: int, value: bytes) -> None:
        self.first_wins(decision(posting, value, job=job), f"0/train/{posting}/targets")

    @rule(job=JOBS, posting=POSTINGS, site=SITES)
    def give(self, job: str, posting: int, site: str) -> None:
        self.first_wins(offer(posting, site, job=job), part(posting, site))

    @rule(job=JOBS, posting=POSTINGS, site=SITES, content=VALUES)
    def receive(self, job: str, posting: int, site: str, content: bytes) -> None:
        row = result(posting, site, job=job, digest=content.hex(), parts=(content,))
        self.first_wins(row, part(posting, site))

    def first_wins(self, row: Kept, key: str) -> None:
        before = self.stands(row.job, type(row), key)
        expected = Outcome.NEW if before is None else Outcome.SAME if before == row else Outcome.ALTERED
        assert self.journal.write([row]) == [expected]
        self.rows.setdefault((row.job, type(row), key), (row, self.last(row.job)))

    @rule(job=JOBS, posting=POSTINGS, site=SITES, fate=st.sampled_from(["counted", "refused"]))
    def judge(self, job: str, posting: int, site: str, fate: str) -> None:
        row = FateRow(job, part(posting, site), fate)
        assert self.journal.write([row]) == [Outcome.NEW]
        self.rows[job, FateRow, row.part] = (row, self.last(job))

    @rule(job=JOBS, step=st.integers(1, 3), keeps=TASKS, forget=st.booleans())
    def commit(self, job: str, step: int, keeps: list[str], forget: bool) -> None:
        version = self.last(job) + step
        row = commit(version, job=job, keeps=tuple(keeps))
        assert self.journal.write([row, ForgetRow(job, version), row][: 3 if forget else 1])[-1] in Outcome
        self.commits.setdefault(job, []).append((version, tuple(keeps)))
        if forget:
            self.forgotten(job, version)

    @rule(job=JOBS, up_to=st.integers(0, 9))
    def forget(self, job: str, up_to: int) -> None:
        self.journal.forget(job, up_to_version=up_to)
        self.forgotten(job, up_to)

    def forgotten(self, job: str, up_to: int) -> None:
        known = [one for one in self.commits.get(job, []) if one[0] <= up_to]
        if known:
            version, keeps = max(known)
            self.commits[job] = [one for one in self.commits[job] if one[0] >= version]
            self.rows = {
                key: (row, since)
                for key, (row, since) in self.rows.items()
                if key[0] != job or since >= version or kept(key[2], keeps)
            }

    @rule(job=JOBS)
    def purge(self, job: str) -> None:
        self.journal.write([PurgeRow(job)])
        self.commits.pop(job, None)
        self.rows = {key: found for key, found in self.rows.items() if key[0] != job}

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal.open(Path(self.folder.name), project="default")

    @invariant()
    def what_is_replayed_is_what_the_dict_says(self) -> None:
        for job in ("0001-a", "0002-b") if hasattr(self, "journal") else ():
            found = self.journal.replay(job)
            version, keeps = max(self.commits.get(job, [(-1, ())]))
            assert (-1 if found.commit is None else found.commit.version) == version
            seen = {(job, DecisionRow, key): DecisionRow(job, key, value) for key, value in found.decisions.items()}
            seen |= {(job, type(row), row.part): row for row in (*found.offers, *found.results, *found.fates.values())}
            assert seen == {
                key: row
                for key, (row, since) in self.rows.items()
                if key[0] == job and (since >= version or kept(key[2], keeps))
            }


def kept(key: str, keeps: tuple[str, ...]) -> bool:
    return any(key == task or key.startswith(f"{task}/") for task in keeps)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=25, stateful_step_count=25)
