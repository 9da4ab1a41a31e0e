"""A PostgreSQL of the tests' own: its data directory, its port, ended by its pid.

Never an instance that was running before: the directory is made here, and before anything is
created in it the server is asked whether it runs from there. initdb refuses root, so root
gives the directory to an unprivileged user and starts the server as that user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql

_STARTS_WITHIN_S = 60.0
_USERS = ("postgres", "nobody")
# Durable enough for a process that is killed, and fast: no test cuts the power.
_SETTINGS = {"fsync": "off", "synchronous_commit": "on", "max_connections": "200"}


_numbers = count(1)


class Missing(Exception):
    """PostgreSQL is not installed."""


@dataclass(frozen=True)
class Server:
    """A running server; `create` makes empty databases in it."""

    port: int
    folder: Path
    pid: int

    def address(self, database: str) -> str:
        """SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg://tests@127.0.0.1:{self.port}/{database}"

    def create(self, like: str = "") -> str:
        """A new database, empty or a copy of one that nobody is connected to; its URL."""
        name = f"made_{next(_numbers)}"
        wanted = sql.SQL("create database {}").format(sql.Identifier(name))
        if like:
            wanted += sql.SQL(" template {}").format(sql.Identifier(like.rpartition("/")[2]))
        with psycopg.connect(self._admin(), autocommit=True) as connection:
            connection.execute(wanted)
        return self.address(name)

    def check_own(self) -> None:
        """Refuses to go on with a server that runs from another directory than ours."""
        with psycopg.connect(self._admin()) as connection:
            row = connection.execute("show data_directory").fetchone()
        if row is None or Path(row[0]).resolve() != self.folder.resolve():
            raise RuntimeError(f"the server on port {self.port} is not the tests' own")

    def _admin(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=tests dbname=postgres connect_timeout=5"


def binaries() -> Path:
    """Where initdb and postgres are; Missing says what to install."""
    found = shutil.which("initdb")
    if found is not None and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    if newest is None:
        raise Missing("PostgreSQL is missing: apt-get install postgresql")
    return newest.parent


@contextmanager
def server() -> Iterator[Server]:
    """Starts a server on a free port and ends it, by pid; its directory goes with it."""
    programs, user = binaries(), _unprivileged()
    root = Path(tempfile.mkdtemp(prefix="aiqleads-postgres-"))
    folder, log = root / "data", root / "log"
    log.touch()
    if user is not None:
        for path in (root, log):
            os.chown(path, user.pw_uid, user.pw_gid)
    who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    made = subprocess.run(
        [programs / "initdb", "-D", folder, "-U", "tests", "-A", "trust", "-E", "UTF8",
         "--no-locale", "--no-sync"],
        capture_output=True, text=True, cwd=root, check=False, **who,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"initdb: {made.stderr.strip()}")
    port = _free_port()
    given = {**_SETTINGS, "unix_socket_directories": "", "listen_addresses": "127.0.0.1"}
    options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [programs / "postgres", "-D", folder, "-p", str(port), *options],
            stdout=out, stderr=out, cwd=root, **who,
        )  # fmt: skip
    try:
        started = Server(port, folder, process.pid)
        _wait_for(started, process, log)
        started.check_own()
        yield started
    finally:
        process.send_signal(signal.SIGINT)  # ends sessions and shuts down at once
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(root, ignore_errors=True)


def _wait_for(started: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            psycopg.connect(started._admin()).close()
            return
        except psycopg.OperationalError as problem:
            if process.poll() is not None or time.monotonic() > until:
                told = log.read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"PostgreSQL did not start: {told}") from problem
            time.sleep(0.05)


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom to run as: None for oneself; root finds somebody else."""
    if os.getuid() != 0:
        return None
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Missing(f"root needs one of the users {', '.join(_USERS)} to run PostgreSQL as")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
