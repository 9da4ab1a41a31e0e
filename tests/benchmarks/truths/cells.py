"""Cells of a long measurement: a result that is on disk is not made again."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Made = TypeVar("Made")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
#: what of the product every figure depends on, besides the data
_SOURCES = (
    "ranking/train.py",
    "ranking/evaluate.py",
    "ranking/dataset.py",
    "ranking/scorer.py",
    "features/timeline.py",
    "features/tables.py",
)
LOCK = HERE.parent / "peers" / "requirements.lock"


def digest(*more: str) -> str:
    """First 12 hex digits over the truths' own modules and what of the product they measure.

    more: further patterns below src/aiqleads.
    """
    package = ROOT / "src" / "aiqleads"
    paths = [*HERE.glob("*.py"), *(package / each for each in _SOURCES)]
    paths += [path for pattern in more for path in package.glob(pattern)]
    found = hashlib.sha256()
    for path in sorted(set(paths)):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def arrays(path: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Named arrays, made once."""
    if not path.is_file():
        say(f"{path.name}: running")
        partial = path.with_suffix(".partial.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(partial, **make())
        partial.replace(path)
    with np.load(path) as file:
        return dict(file)


def pickled(path: Path, make: Callable[[], Made]) -> Made:
    """An object of this program, made once; the folder is this program's own."""
    if not path.is_file():
        say(f"{path.name}: running")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(pickle.dumps(make()))
        partial.replace(path)
    made: Made = pickle.loads(path.read_bytes())
    return made


def peers_python(folder: Path) -> Path:
    """Python of the peers' environment, made once for the lock of tests/benchmarks/peers."""
    venv = folder / f"peers-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    python, done = venv / "bin" / "python", venv / ".installed"
    if not done.is_file():
        say("the peers' environment: installing")
        uv = str(Path(sys.executable).with_name("uv"))
        install = [uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)])
        _run([*install, "--python", str(python), "-r", str(LOCK)])
        done.touch()
    return python


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
