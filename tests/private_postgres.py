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
from typing import Any

import psycopg
from psycopg import sql

_STARTS_WITHIN_S = 60.0
_USERS = ("postgres", "nobody")
# Durable enough for a process that is killed, and fast: no test cuts the power.
_SETTINGS = {"fsync": "off", "synchronous_commit": "on", "max_connections": "200"}


_numbers = count(1)


class Missing(Exception):
    """PostgreSQL is not installed."""


@dataclass
class Server:
    """A running server; `create` makes empty databases in it, `crash` kills it."""

    port: int
    folder: Path
    _who: dict[str, Any]
    durable: bool = False
    _process: subprocess.Popen[bytes] | None = None

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

    def drop(self, database: str) -> None:
        """Removes a database that `create` made, by its URL, and ends who uses it."""
        name = sql.Identifier(database.rpartition("/")[2])
        with psycopg.connect(self._admin(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(name))

    def backends(self) -> list[int]:
        """Process ids of the sessions that clients have open now."""
        query = (
            "select pid from pg_stat_activity"
            " where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        with psycopg.connect(self._admin()) as connection:
            return [row[0] for row in connection.execute(query)]

    def end_session(self, pid: int) -> None:
        """Ends the session of a process as an operator would, and waits until it is gone."""
        with psycopg.connect(self._admin(), autocommit=True) as connection:
            connection.execute("select pg_terminate_backend(%s, 10000)", [pid])

    def crash(self) -> None:
        """Kills the postmaster with SIGKILL and starts it again on what is on the disk."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.start()

    def start(self) -> None:
        """Starts the server and returns when it answers, from the tests' own directory.

        After a crash its sessions take a moment to notice, and until the last is gone a new
        server refuses to start: it is asked again.
        """
        given = {**_SETTINGS, "unix_socket_directories": "", "listen_addresses": "127.0.0.1"}
        if self.durable:
            given["fsync"] = "on"
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        command = [binaries() / "postgres", "-D", self.folder, "-p", str(self.port), *options]
        until = time.monotonic() + _STARTS_WITHIN_S / 3
        while True:
            with self._log.open("ab") as out:
                self._process = subprocess.Popen(
                    command, stdout=out, stderr=out, cwd=self.folder.parent, **self._who
                )
            if self._answers(until):
                break
            if time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {self._told()}")
        self.check_own()

    def stop(self) -> None:
        """Ends sessions and shuts down at once."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self) -> None:
        """Returns when the server answers: after the kill of a session it recovers first."""
        until = time.monotonic() + _STARTS_WITHIN_S
        if not self._answers(until):
            raise RuntimeError(f"PostgreSQL is gone: {self._told()}")

    def _answers(self, until: float) -> bool:
        """Waits for an answer; False when the server has ended instead."""
        assert self._process is not None
        while True:
            try:
                psycopg.connect(self._admin()).close()
                return True
            except psycopg.OperationalError as problem:
                if time.monotonic() > until:
                    raise RuntimeError(f"PostgreSQL did not start: {self._told()}") from problem
                time.sleep(0.05)
                if self._process.poll() is not None:
                    return False

    @property
    def _log(self) -> Path:
        return self.folder.parent / "log"

    def _told(self) -> str:
        return self._log.read_text(errors="replace")[-2_000:]

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
def server(*, durable: bool = False) -> Iterator[Server]:
    """Starts a server on a free port and ends it, by pid; its directory goes with it.

    durable: commits wait for the disk, as a shop's do.
    """
    programs, user = binaries(), _unprivileged()
    root = Path(tempfile.mkdtemp(prefix="aiqleads-postgres-"))
    folder, log = root / "data", root / "log"
    log.touch()
    if user is not None:
        for path in (root, log):
            os.chown(path, user.pw_uid, user.pw_gid)
    who: dict[str, Any] = {}
    if user is not None:
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    made = subprocess.run(
        [programs / "initdb", "-D", folder, "-U", "tests", "-A", "trust", "-E", "UTF8",
         "--no-locale", "--no-sync"],
        capture_output=True, text=True, cwd=root, check=False, **who,
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(f"initdb: {made.stderr.strip()}")
    started = Server(_free_port(), folder, who, durable)
    try:
        started.start()
        yield started
    finally:
        started.stop()
        shutil.rmtree(root, ignore_errors=True)


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
