"""Parquet frames of a market: written whole or not at all, under their contracts."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine

from aiqleads.contracts.frames import FRAMES, check_frame
from aiqleads.errors import NotReady
from aiqleads.settings import Settings
from aiqleads.store.homes import sale_columns
from aiqleads.store.leads import lead_columns, submission_columns


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
    return write_blocks(settings, market, name, [frame])


def write_blocks(
    settings: Settings, market: str, name: str, blocks: Iterable[pd.DataFrame]
) -> Path:
    """As `write_frame`, of a frame that comes in blocks (one at least), each checked alone."""
    path = frame_path(settings, market, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    writer: pq.ParquetWriter | None = None
    try:
        for block in blocks:
            if name in FRAMES:
                check_frame(name, block)
            table = pa.Table.from_pandas(block, preserve_index=False)
            if writer is None:
                writer = pq.ParquetWriter(part, table.schema, compression="zstd")
            # A block without a single text would give its column another type.
            writer.write_table(table.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()
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


def store_frame(settings: Settings, engine: Engine, market: str, name: str) -> Path:
    """Writes one of the frames leads, submissions and sales as the store has it now.

    Leads: those that wait for nothing, by lead_id; submissions: when their people wrote,
    the repeats included; sales: those with a place, by sale_id.
    """
    names = [each.name for each in FRAMES[name]]
    if name == "leads":
        blocks = lead_columns(engine, market, names)
    elif name == "submissions":
        blocks = submission_columns(engine, market)
    else:
        blocks = sale_columns(engine, market, names)
    return write_blocks(settings, market, name, _promised(name, names, blocks))


def _promised(
    name: str, names: Sequence[str], blocks: Iterator[list[list[Any]]]
) -> Iterator[pd.DataFrame]:
    """Blocks as frames with the dtypes of the contract; an empty one where there is none."""
    types = {each.name: object if each.dtype == "str" else each.dtype for each in FRAMES[name]}
    empty = True
    for columns in blocks:
        empty = False
        yield _typed(dict(zip(names, columns, strict=True)), types)
    if empty:
        yield _typed({each: [] for each in names}, types)


def _typed(columns: dict[str, list[Any]], types: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {each: pd.Series(columns[each], dtype=kind) for each, kind in types.items()}
    )
