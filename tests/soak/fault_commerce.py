"""Every crossing of every commerce scenario x every fault, and pairs of faults.

    fault_commerce.py [pairs] [cases on PostgreSQL]

On SQLite each single fault and so many pairs; on a private PostgreSQL a sample of both. See
tests/commerce_faults.py for what a case is and when it is right. Resumable: cases that were
right are kept for one state of the source. Prints one JSON object.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import structlog
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from rounds import Rounds  # noqa: E402
from tests import private_postgres  # noqa: E402
from tests.commerce_faults import (  # noqa: E402
    SERVER_FAULTS,
    Case,
    Worlds,
    of_server,
    pairs,
    postgres_engines,
    single,
)

SEED = 1


def main(pairs_of_faults: int = 1_500, on_postgres: int = 400) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    started, wrong, counts = time.time(), {}, Counter[str]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aiqleads-fault-")))
        kept = Rounds("fault_commerce")
        worlds = Worlds(folder)
        singles = list(single(worlds))
        cases = [*singles, *pairs(singles, pairs_of_faults, SEED)]
        run(worlds, "sqlite", cases, kept, wrong, counts)
        server = stack.enter_context(private_postgres.server())
        sample = random.Random(SEED).sample(cases, min(on_postgres, len(cases)))
        sample += [case for busy in singles for case in of_server(busy)][:: len(SERVER_FAULTS) + 1]
        make_engine = postgres_engines(server)
        run(Worlds(folder / "pg", make_engine), "postgresql", sample, kept, wrong, counts)
    made = {
        "name": "commerce.faults",
        "cases": counts["sqlite"] + counts["postgresql"],
        "single": len(singles),
        "pairs": pairs_of_faults,
        "by": dict(sorted(counts.items())),
        "wrong": dict(list(wrong.items())[:20]),
        "ok": not wrong,
        "seconds": round(time.time() - started, 1),
    }
    print(json.dumps(made))
    sys.exit(bool(wrong))


def run(
    worlds: Worlds,
    where: str,
    cases: list[Case],
    kept: Rounds,
    wrong: dict[str, list[str]],
    counts: Counter[str],
) -> None:
    """Runs the cases that are not kept; those that were right are kept by their names."""
    done = {each["case"] for each in kept.done}
    for case in tqdm(cases, desc=f"faults on {where}", mininterval=5):
        name = f"{where}: {case.name}"
        if name not in done:
            if found := worlds.run(case):
                wrong[name] = found
                print(name, found, file=sys.stderr)
            else:
                kept.add({"case": name})
        counts[where] += 1
        counts[f"scenario {case.scenario}"] += 1
        for _, fault in case.faults:
            counts[f"fault {fault}"] += 1


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:]))
