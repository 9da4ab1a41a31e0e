from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from aiqleads.settings import Settings
from aiqleads.store import agents
from aiqleads.store.database import connect

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 120


@dataclass
class Connection:
    """One kept-alive connection, which stays with the worker that took it."""

    port: int
    key: str

    def __post_init__(self) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, once: str = "") -> tuple[int, Any]:
        """Status and parsed body of one request."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        if once:
            headers["Idempotency-Key"] = once
        content = None if body is None else json.dumps(body)
        try:
            self._http.request(method, path, content, headers)
            answer = self._http.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # An idle connection was closed; the key makes it safe to ask again.
            self._http.close()
            self._http.request(method, path, content, headers)
            answer = self._http.getresponse()
        text = answer.read()
        is_json = "json" in (answer.getheader("content-type") or "")
        return answer.status, json.loads(text) if is_json else text.decode()


@dataclass
class Live:
    """A served bento: its home, its port and its master process."""

    settings: Settings
    port: int
    process: psutil.Process

    def key(self, agent_id: str | None, *scopes: str) -> str:
        room = connect(self.settings, "commerce")
        wanted = scopes or (agents.AGENT_SCOPES if agent_id else ("ops", "leads:read"))
        text, _ = agents.create_key(room, agent_id, wanted, 0)
        room.dispose()
        return text

    def connection(self, agent_id: str | None) -> Connection:
        return Connection(self.port, self.key(agent_id))

    def workers(self) -> dict[int, dict[str, Any]]:
        """What each worker says of itself, by process id."""
        key, found = self.key(None), {}
        for _ in range(200):
            told = Connection(self.port, key).ask("GET", "/v1/admin/process")[1]
            found[told["pid"]] = told
            if len(found) == 2:
                break
        return found


@pytest.fixture(scope="session")
def packaging() -> ModuleType:
    """The module that builds and starts bentos."""
    path = REPOSITORY / "bentos" / "marketplace" / "package.py"
    spec = importlib.util.spec_from_file_location("marketplace_package", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that holds the serving lock and nothing else."""
    root = tmp_path_factory.mktemp("fresh") / "venv"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv is not None
    lock = REPOSITORY / "requirements-serving.lock"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, root], check=True)
    python = root / "bin" / "python"
    command = [uv, "pip", "install", "-q", "--python", python, "--require-hashes", "--no-deps"]
    subprocess.run([*command, "-r", lock], check=True)
    return python


@pytest.fixture(scope="session")
def built(
    packaging: ModuleType, serving_world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Path]:
    """A home with 1,200 leads for one buyer each, and its bento in another directory."""
    home = tmp_path_factory.mktemp("shop")
    settings = serving_world["build"](home, leads_count=1_200, max_buyers=1)
    _tag, path = packaging.package(settings, home / "scorer")
    moved = tmp_path_factory.mktemp("elsewhere") / "bento"
    shutil.copytree(path, moved)
    shutil.rmtree(settings.data / "bentoml")
    return settings, moved


def start(python: Path, bento: Path, home: Path, port: int, log: Path) -> psutil.Process:
    """Starts a bento as anybody would, outside the repository and without its settings."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {
        "AIQLEADS_HOME": str(home),
        "AIQLEADS_WORKERS": "2",
        "AIQLEADS_RATE_LIMITS": "false",  # two agents race for hundreds of leads in a minute
        "BENTOML_HOME": str(log.parent / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
    }
    command = [python.parent / "bentoml", "serve", bento, "--host", "127.0.0.1"]
    with log.open("wb") as output:
        return psutil.Popen(
            [*map(str, command), "--port", str(port)],
            env=environment,
            cwd=log.parent,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_until_ready(port: int, process: psutil.Process, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            break
        try:
            if Connection(port, "").ask("GET", "/readyz")[0] == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the service did not start: {log.read_text()[-2000:]}")


def stop(process: psutil.Process) -> list[psutil.Process]:
    """Ends a master by SIGTERM; returns those of its processes that are still there."""
    family = [process, *process.children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    _gone, alive = psutil.wait_procs(family, timeout=30)
    for one in alive:
        one.kill()
    return alive


@pytest.fixture(scope="session")
def live(
    built: tuple[Settings, Path], fresh_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """The bento served by the fresh environment, two workers."""
    settings, bento = built
    port, log = free_port(), tmp_path_factory.mktemp("serving") / "log"
    process = start(fresh_python, bento, settings.home, port, log)
    try:
        wait_until_ready(port, process, log)
        yield Live(settings, port, process)
    finally:
        stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
