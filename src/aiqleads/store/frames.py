"""Parquet frames of a market: written whole or not at all, under their contracts."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine

from aiqleads.contracts.frames import FRAMES, check_frame
from aiqleads.errors import NotReady
from aiqleads.settings import Settings
from aiqleads.store.leads import lead_rows, submission_rows


def market_dir(settings: Settings, market: str) -> Path:
    """Where a market's frames lie: data/core/<market>."""
    return settings.data / "core" / market


def frame_path(settings: Settings, market: str, name: str) -> Path:
    """Path of one frame, e.g. data/core/lucas/leads.parquet; it need not exist."""
    return market_dir(settings, market) / f"{name}.parquet"


@contextmanager
def market_lock(settings: Settings, market: str) -> Iterator[None]:
    """Held by whoever changes a market's frames; another writer waits."""
    folder = market_dir(settings, market)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_frame(settings: Settings, market: str, name: str, frame: pd.DataFrame) -> Path:
    """Writes a frame beside its place and moves it there: readers see the old or the new.

    A frame that has a contract is checked first; ContractBroken leaves the old one alone.
    """
    if name in FRAMES:
        check_frame(name, frame)
    path = frame_path(settings, market, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, part, compression="zstd")
    return part.replace(path)


def read_frame(
    settings: Settings, market: str, name: str, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """A stored frame, or some of its columns; NotReady says how to make it."""
    path = frame_path(settings, market, name)
    if not path.is_file():
        raise NotReady(f"there is no {path}: run `aiqleads ingest` for market {market!r} first")
    wanted = None if columns is None else list(columns)
    return pd.DataFrame(pq.read_table(path, columns=wanted).to_pandas())


def _promised(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the dtypes of its contract, so that an empty one has them too."""
    types = {each.name: object if each.dtype == "str" else each.dtype for each in FRAMES[name]}
    return frame.astype(types)[list(types)]


def leads_frame(engine: Engine, market: str) -> pd.DataFrame:
    """Every stored lead of a market that has a place; one row a lead, by lead_id."""
    names = [each.name for each in FRAMES["leads"]]
    return _promised("leads", pd.DataFrame(lead_rows(engine, market), columns=names))


def submissions_frame(engine: Engine, market: str) -> pd.DataFrame:
    """When each lead's person wrote, the repeats included; one row a submission."""
    columns = ["lead_id", "received_market_us"]
    return _promised("submissions", pd.DataFrame(submission_rows(engine, market), columns=columns))
