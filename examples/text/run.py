"""The next character of Shakespeare's roles: each role alone, federated over all of them, and pooled.

python examples/text/run.py --data FOLDER
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from data import Role, decoded, encoded, load
from model import NextCharacter, accuracy, continued, train
from trainer import RoleTrainer

from hansa.demos.field_example import Example, Options, federation
from hansa.demos.gain import Gain
from hansa.jobs import Component, Job, fed_avg

EXAMPLE = Example("text", about=__doc__, rounds=30, quick_rounds=6)
PER_ROUND, QUICK_PER_ROUND = 20, 6
"""Roles that a round asks, drawn anew each time."""
CHARACTERS = 4096
"""That each of them reads in a round."""
MEASURED, QUICK_MEASURED = 10, 3
"""Roles whose test text is used, and that are trained alone for comparison: drawn by seed."""
POC_ROLES = 6
PASSES, QUICK_PASSES = 16, 2
"""That a role which is alone makes over its text; more hardly help it."""
POOLED_BATCH = 32
PROMPT = "What say you to "


def job(network: NextCharacter, *, data: Path, rounds: int, per_round: int) -> Job:
    """Federated averaging over some of the roles in each round."""
    trainer = Component(RoleTrainer, data=str(data.absolute()), characters=CHARACTERS)
    return fed_avg(model=network, executor=trainer, rounds=rounds, sampling={"count": per_round}, name="text")


def measured(roles: dict[str, Role], seed: int, number: int) -> list[Role]:
    """Some roles, drawn by lot."""
    chosen = np.random.default_rng(seed).choice(sorted(roles), min(number, len(roles)), replace=False)
    return [roles[name] for name in sorted(chosen)]


def alone(network: NextCharacter, role: Role, passes: int) -> float:
    """The accuracy on a role's own test text of a model that has seen only this role."""
    network = copy.deepcopy(network)
    train(network, role.train, passes * len(role.train))
    return accuracy(network, role.test)


def pooled(network: NextCharacter, roles: Iterable[Role], characters: int) -> NextCharacter:
    """Trained on all roles' texts in one place, on as many characters as the federation reads."""
    network = copy.deepcopy(network)
    train(network, np.concatenate([role.train for role in roles]), characters, batch=POOLED_BATCH)
    return network


def score(network: NextCharacter, roles: list[Role]) -> float:
    """The mean over roles of the accuracy on each one's test text."""
    return float(np.mean([accuracy(network, role.test) for role in roles]))


def compare(options: Options) -> Gain:
    """Some roles alone, all roles federated, all roles in one place; for each seed other roles are measured."""
    roles = load(options.data)
    if options.poc:  # a process for each of hundreds of sites is more than one machine has
        roles = dict(list(roles.items())[:POC_ROLES])
    per_round = min(len(roles), QUICK_PER_ROUND if options.quick else PER_ROUND)
    passes = QUICK_PASSES if options.quick else PASSES
    gain = Gain(
        f"Next character of {len(roles)} roles, Shakespeare",
        metric="accuracy on the end of each role's text",
    )
    with federation(list(roles), options) as stage:
        for seed in options.seeds:
            torch.manual_seed(seed)
            network = NextCharacter()
            tested = measured(roles, seed, QUICK_MEASURED if options.quick else MEASURED)
            run = stage.run(job(network, data=options.data, rounds=options.rounds, per_round=per_round), seed)
            on_their_own = {role.site: alone(network, role, passes) for role in tested}
            in_one_place = pooled(network, roles.values(), options.rounds * per_round * CHARACTERS)
            network.load_state_dict(run.state_dict())
            gain.add(
                seed=seed, alone=on_their_own, federated=score(network, tested), pooled=score(in_one_place, tested)
            )
            if seed == 0:
                sample = PROMPT + decoded(continued(network, encoded(PROMPT), 400, seed=0))
                (options.out / "sample.txt").write_text(sample + "\n", encoding="utf-8")
            options.say(f"seed {seed}: {gain.verdict()}")
    return gain


if __name__ == "__main__":
    sys.exit(EXAMPLE.main(compare))
