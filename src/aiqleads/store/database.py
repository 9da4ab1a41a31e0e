"""Opens the rooms of the database, brought to the newest revision first."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import alembic.command
import alembic.config
from sqlalchemy import URL, Engine, create_engine, event, make_url

from aiqleads.settings import Settings
from aiqleads.store import outages
from aiqleads.store.pool import Pool

#: how long a server may take to let a client in
_CONNECT_SECONDS = 5
#: Alembic keeps what it is at in its module: two threads at once would confuse it
_migrating = threading.Lock()

Room = Literal["leads", "vault", "commerce"]


def connect(settings: Settings, room: Room) -> Engine:
    """Engine of one room; SQLite's transactions start with BEGIN IMMEDIATE for writers.

    The schema is not touched: `upgrade` does that, once, at setup. Faults that pass by
    themselves are `Refused("busy")`, see `store.outages`.
    """
    url = make_url(settings.url(room))
    engine = _embedded(url, room) if url.get_backend_name() == "sqlite" else _server(url)
    outages.tell(engine)
    return engine


def _server(url: URL) -> Engine:
    waits = {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_SECONDS}
    engine = create_engine(url, poolclass=Pool, connect_args=waits)
    outages.renew(engine)
    return engine


def _embedded(url: URL, room: Room) -> Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        poolclass=Pool,
        connect_args={"timeout": 30, "check_same_thread": False},
    )
    # What was answered 202 or paid must outlive a power cut.
    synchronous = "NORMAL" if room == "leads" else "FULL"

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver must not open transactions of its own: it would begin them as
        # readers, and a reader that becomes a writer can fail under WAL.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            "busy_timeout=30000",
            # Ids are random, so a large ingest touches pages all over its indexes: they
            # stay in 32 MB of memory, and the log is folded in less often (32 MB of pages).
            "cache_size=-32768",
            "wal_autocheckpoint=8192",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        mode = "" if connection.get_execution_options().get("readonly") else "IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN {mode}".rstrip())

    return engine


def reader(engine: Engine) -> Engine:
    """The same engine for transactions that only read (no write lock is taken)."""
    return engine.execution_options(readonly=True)


@lru_cache
def _config(room: Room) -> alembic.config.Config:
    config = alembic.config.Config()
    root = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(root))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(root / room))
    return config


def upgrade(engine: Engine, room: Room) -> None:
    """Brings a room to the newest revision; does nothing where it is there already."""
    config = _config(room)
    with _migrating, engine.connect() as connection:
        config.attributes["connection"] = connection
        config.attributes["room"] = room
        alembic.command.upgrade(config, "head")
        connection.commit()


def open_room(settings: Settings, room: Room) -> Engine:
    """Engine of a room whose schema is the newest."""
    engine = connect(settings, room)
    upgrade(engine, room)
    return engine
