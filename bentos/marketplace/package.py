"""Builds the marketplace's bento, complete in itself, and starts it.

A built bento holds the code, the champion and the serving lock. It does not hold the store,
the keys or the snapshot: AIQLEADS_HOME says where those are when it is served.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import aiqleads
from aiqleads.api.preflight import check
from aiqleads.errors import InvalidInput, NotReady
from aiqleads.settings import Settings

NAME = "marketplace"
HERE = Path(__file__).resolve().parent
LOCK = "requirements-serving.lock"
_SHELL = ("service.py", "bentofile.yaml", ".bentoignore")
_SCORER = ("model.cbm", "model.json")
_BIN = Path(sys.executable).parent
_HOST = "127.0.0.1"


def package(settings: Settings, scorer: Path, lock: Path | None = None) -> tuple[str, Path]:
    """Builds the bento of a scorer; returns its tag and its directory.

    scorer: directory of model.cbm and model.json. lock: default the checkout's. The version
    is made from the content, so building the same again finds it built. Raises NotReady where
    a part is missing or the build fails (with its last line).
    """
    store = _store(settings)
    context = settings.data / "bento-build"
    shutil.rmtree(context, ignore_errors=True)
    _assemble(context, scorer, lock or HERE.parents[1] / LOCK)
    version = _digest(context)
    built = store / "bentos" / NAME / version
    if not (built / "bento.yaml").is_file():
        _build(context, store, version)
    shutil.rmtree(context)
    return f"{NAME}:{version}", built


def serve(
    settings: Settings, tag_or_path: str | Path, port: int, workers: int | None = None
) -> subprocess.Popen[bytes]:
    """Starts a built bento on a port of this machine and returns the master's process.

    tag_or_path: `marketplace:<version>` as `package` returned it, or a built directory.
    workers: default the settings' number. Raises NotReady where the bento, or something that
    it needs under the settings' home, is missing, and InvalidInput where the port is taken:
    no other is picked. End it with SIGTERM; the workers end with it.
    """
    path = find(settings, tag_or_path)
    check(settings, path / "src" / "scorer")
    _check_free(port)
    environment = os.environ | {
        "AIQLEADS_HOME": str(settings.home.resolve()),
        "AIQLEADS_WORKERS": str(workers or settings.workers),
        # Each port has its own, because BentoML empties the metrics' directory in it at start.
        "BENTOML_HOME": str(_store(settings, f"bentoml-{port}")),
        "BENTOML_DO_NOT_TRACK": "true",
        "OMP_NUM_THREADS": "1",
    }
    command = [str(_BIN / "bentoml"), "serve", str(path), "--host", _HOST, "--port", str(port)]
    return subprocess.Popen(command, env=environment, cwd=path)


def find(settings: Settings, tag_or_path: str | Path) -> Path:
    """Directory of a built bento, absolute; NotReady when there is none."""
    path = Path(tag_or_path)
    if not path.is_dir():
        name, _, version = str(tag_or_path).partition(":")
        path = _store(settings) / "bentos" / name / version
    if not (path / "bento.yaml").is_file():
        raise NotReady(f"no bento is built at {tag_or_path}: run `aiqleads package`")
    return path.resolve()


def _store(settings: Settings, name: str = "bentoml") -> Path:
    store = settings.data.resolve() / name
    store.mkdir(parents=True, exist_ok=True)
    return store


def _assemble(context: Path, scorer: Path, lock: Path) -> None:
    """A directory that holds what the bento holds, and nothing else."""
    parts = [HERE / name for name in _SHELL] + [lock] + [scorer / name for name in _SCORER]
    missing = [str(part) for part in parts if not part.is_file()]
    if missing:
        raise NotReady(f"a bento cannot be built without {', '.join(missing)}")
    (context / "scorer").mkdir(parents=True)
    for name in _SHELL:
        shutil.copyfile(HERE / name, context / name)
    for name in _SCORER:
        shutil.copyfile(scorer / name, context / "scorer" / name)
    shutil.copyfile(lock, context / LOCK)
    shutil.copytree(
        Path(aiqleads.__file__).parent,
        context / "aiqleads",
        ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
    )


def _digest(context: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(context)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _build(context: Path, store: Path, version: str) -> None:
    environment = os.environ | {
        "BENTOML_HOME": str(store),
        "BENTOML_DO_NOT_TRACK": "true",
        "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}",  # the build asks for uv
    }
    shutil.rmtree(store / "bentos" / NAME / version, ignore_errors=True)
    command = [str(_BIN / "bentoml"), "build", "--version", version, "-o", "tag", str(context)]
    done = subprocess.run(
        command, env=environment, cwd=context, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NotReady(f"`bentoml build` failed: {' '.join(last)}")


def _check_free(port: int) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError) as error:
            raise InvalidInput(
                f"port {port} cannot be used ({error}); name another with --port"
            ) from error
