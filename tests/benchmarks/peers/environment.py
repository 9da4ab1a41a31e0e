"""The peers' own virtual environment, made once for each state of its lock."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements.lock"
SOURCE = HERE.parents[2] / "src"


def python_of(root: Path) -> Path:
    """The interpreter of the venv under `root`, made first if the lock has changed.

    root: `reports/bench/peers-venv`; older ones in it are removed. Two processes at once make
    it once. Raises CalledProcessError when a package cannot be had.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    with (root / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (folder / "done").is_file():
            for older in root.iterdir():
                if older.is_dir():
                    shutil.rmtree(older)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            pip += ["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
            subprocess.run([*pip, "-r", str(LOCK)], check=True, stdout=sys.stderr)
            (folder / "done").touch()
    return folder / "bin" / "python"


def run_peers(
    root: Path,
    arrays: Path,
    out: Path,
    arms: Sequence[str],
    *,
    seed: int,
    threads: int = 1,
    chosen: Path | None = None,
) -> dict[str, Any]:
    """Runs `run.py` on the arrays; scores of the test window are in `out/<arm>.npy`.

    chosen: another run's peers.json, whose choice of configurations is taken over.

    Returns what it says of each arm: the configuration chosen, all that were tried, seconds.
    Raises CalledProcessError when it fails.
    """
    command = [str(python_of(root)), str(HERE / "run.py"), str(arrays), str(out)]
    command += ["--arms", ",".join(arms), "--seed", str(seed), "--threads", str(threads)]
    command += ["--chosen", str(chosen)] if chosen else []
    environment = dict(os.environ, PYTHONPATH=str(SOURCE))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    said: dict[str, Any] = json.loads((out / "peers.json").read_text())
    return said
