"""Plants every bug of tests/mutants/planted.py, one at a time; the tests must catch each.

    mutant_commerce.py

First the tests pass on the source as it is, so that what fails later fails by its bug. Resumable.
Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from rounds import Rounds  # noqa: E402  (found by the line above)
from tests.mutants.planted import BUGS, SOURCE, Bug  # noqa: E402


def main() -> None:
    started, survived = time.time(), {}
    kept = Rounds("mutant_commerce")
    done = {each["name"] for each in kept.done}
    for tests in tqdm(sorted({bug.tests for bug in BUGS} - done), desc="without a bug"):
        code, said = Bug("none", "", "", "", tests).outcome(SOURCE.parent)
        if code:
            raise SystemExit(f"{tests} fails without a bug: {said}")
        kept.add({"name": tests})
    for bug in tqdm([bug for bug in BUGS if bug.name not in done], desc="planted"):
        with tempfile.TemporaryDirectory(prefix="aiqleads-mutant-") as folder:
            code, said = bug.outcome(bug.planted(Path(folder)))
        if code == 1:
            kept.add({"name": bug.name})
        else:
            survived[bug.name] = f"exit {code}: {said[-300:]}"
            print(bug.name, survived[bug.name], file=sys.stderr)
    made = {
        "name": "commerce.planted_bugs",
        "planted": len(BUGS),
        "caught": len(BUGS) - len(survived),
        "survived": survived,
        "ok": not survived,
        "seconds": round(time.time() - started, 1),
    }
    print(json.dumps(made))
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
