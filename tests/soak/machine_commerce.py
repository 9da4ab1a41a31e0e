"""The machine of tests/commerce_machine.py, run until it has reached every end often enough.

    machine_commerce.py [least] [most batches]

Each batch is 20 runs under a seed of its own. An end that is reached too seldom after the last
batch is a failure: a machine that does not get there proves nothing about it. Resumable. Prints
one JSON object with the count of each end.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from rounds import Rounds  # noqa: E402  (found by the line above)
from tests.commerce_machine import Money, all_ends, sqlite_worlds  # noqa: E402

RUNS, STEPS = 20, 40


def main(least: int = 30, most_batches: int = 60) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    started, reached, batches = time.time(), Counter[str](), 0
    Money.worlds = sqlite_worlds()
    kept = Rounds("machine_commerce")
    for number in tqdm(range(1, most_batches + 1), desc="batches"):
        if len(kept.done) < number:
            kept.add(batch(number))
        batches = number
        reached.update(kept.done[number - 1])
        if all(reached[end] >= least for end in all_ends()):
            break
    made = {
        "name": "commerce.machine",
        "runs": batches * RUNS,
        "steps": batches * RUNS * STEPS,
        "reached": {end: reached[end] for end in all_ends()},
        "least": least,
        "ok": all(reached[end] >= least for end in all_ends()),
        "seconds": round(time.time() - started, 1),
    }
    print(json.dumps(made))
    sys.exit(not made["ok"])


def batch(number: int) -> dict[str, int]:
    """Runs of one seed; how often each end was reached. Raises what an invariant found."""
    Money.reached.clear()
    run_state_machine_as_test(
        seed(number)(Money),
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
    return dict(Money.reached)


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:]))
