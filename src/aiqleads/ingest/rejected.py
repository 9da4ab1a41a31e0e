"""From problems of rows to sealed rows of the quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from sqlalchemy import Connection

from aiqleads.contracts.quarantine import Reject, rejects
from aiqleads.ingest.batches import CONTRACTS, Run
from aiqleads.ingest.payload import RECORD, Chunk
from aiqleads.ingest.source import Parsed
from aiqleads.store import batches as store


def found_in(
    chunk: Chunk, parsed: Parsed, broken: pd.DataFrame, rows: pd.DataFrame
) -> list[Reject]:
    """Both kinds of problems: what could not be read, and what breaks the contract.

    broken: index, column and rule of what breaks it. rows: what was checked.
    """
    values = _values(broken, rows)
    both = [parsed.problems, broken.assign(value=pd.Series(values, broken.index, dtype=object))]
    filled = [each for each in both if len(each)]
    return rejects(pd.concat(filled), chunk.rows, RECORD) if filled else []


def unread(chunk: Chunk, parsed: Parsed) -> list[Reject]:
    """Rows that a parser passed over without a word: none is lost."""
    told = {*parsed.rows.index.tolist(), *parsed.problems["index"].tolist()}
    left = chunk.rows.index[~chunk.rows.index.isin(list(told))]
    if not len(left):
        return []
    rule = "row: one that its source reads"
    told_of = pd.DataFrame({"index": left, "column": "row", "rule": rule, "value": None})
    return rejects(told_of, chunk.rows, RECORD)


def _values(broken: pd.DataFrame, rows: pd.DataFrame) -> list[Any]:
    """What stood where a rule is broken; a row of a series may stand there several times."""
    if not len(broken):
        return []
    once = rows[~rows.index.duplicated()]
    places = zip(broken["index"], broken["column"], strict=True)
    return [once.at[index, column] if column in once.columns else None for index, column in places]


def keep_rejects(
    connection: Connection,
    run: Run,
    batch_id: str,
    sha256: str,
    rows: Sequence[Reject],
    between: tuple[int, int],
) -> None:
    """Stores a chunk's rejects sealed under the payload's key, in place of earlier verdicts.

    between: first and last row number of the chunk.
    """
    store.forget_quarantine(connection, run.market.name, run.source.name, sha256, *between)
    if not rows:
        return
    key_id = f"payload:{sha256}"
    names = [f"quarantine:{sha256}:{each.row_number}:{each.rule}" for each in rows]
    texts = [_encoded(each.row) for each in rows]
    valued = [at for at, each in enumerate(rows) if each.value is not None]
    said = [_encoded(str(rows[at].value)) for at in valued]
    sealed = run.vault.seal(
        [key_id] * (len(rows) + len(valued)),
        [*(f"{name}:row" for name in names), *(f"{names[at]}:value" for at in valued)],
        [*texts, *said],
    )
    values: list[bytes | None] = [None] * len(rows)
    for at, each in zip(valued, sealed[len(rows) :], strict=True):
        values[at] = each
    columns: dict[str, list[Any]] = {
        "batch_id": [batch_id] * len(rows),
        "row_number": [each.row_number for each in rows],
        "rule": [each.rule for each in rows],
        # Keyed: a plain digest would let anybody try out what a row may have said.
        "row_hash": [each.hex() for each in run.vault.match(each.row for each in rows)],
        "source": [run.source.name] * len(rows),
        "column": [each.column for each in rows],
        "value": values,
        "row": sealed[: len(rows)],
        "key_id": [key_id] * len(rows),
        "contract_version": [CONTRACTS[run.source.kind]] * len(rows),
        "replayed_batch_id": [None] * len(rows),
    }
    store.put_quarantine(connection, columns)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
