"""Payloads as they came, sealed under data/raw/<source>/<date>/ and listed in table payload."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from sqlalchemy import Connection, select

from aiqleads.domain import US_PER_SECOND
from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.ingest.payload import Payload, payload_from
from aiqleads.settings import Settings
from aiqleads.store import tables
from aiqleads.store.transactions import insert_missing
from aiqleads.store.vault import Vault

_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def keep_raw(
    connection: Connection,
    vault: Vault,
    settings: Settings,
    source: str,
    payload: Payload,
    now_us: int,
) -> dict[str, Any]:
    """The payload's row in table `payload`, made with its sealed copy where there is none.

    connection: a transaction of the room `leads` that writes. A payload that came before,
    on whatever day and under whatever name, is not copied again; a copy appears whole or
    not at all. InvalidInput where the payload is not what it was when it was opened.
    """
    row = _row(connection, payload.sha256, source)
    if row is not None and (settings.data / row["kept_at"]).is_file():
        return row
    if row is None:
        day = dt.datetime.fromtimestamp(now_us // US_PER_SECOND, dt.UTC).date().isoformat()
        name = _NAME.sub("_", Path(payload.name).name)[-80:]
        row = {
            "payload_sha256": payload.sha256,
            "source": source,
            "name": payload.name,
            "bytes": payload.size,
            "kept_at": f"raw/{source}/{day}/{payload.sha256[:16]}-{name}.sealed",
            "key_id": f"payload:{payload.sha256}",
            "received_us": now_us,
        }
    _seal(vault, payload, row["key_id"], settings.data / row["kept_at"])
    insert_missing(connection, tables.payload, [row])
    return row


def open_raw(
    settings: Settings, vault: Vault, connection: Connection, sha256: str, source: str
) -> Payload:
    """A payload as it was kept, unsealed while it is read: its bytes are on no disk.

    UnknownName where it was never kept; InvalidInput where the copy is gone or altered, or
    its key was destroyed.
    """
    row = _row(connection, sha256, source)
    if row is None:
        raise UnknownName(f"no payload {sha256[:16]} of source {source} is kept")
    kept = settings.data / row["kept_at"]

    def opened() -> BinaryIO:
        try:
            sealed = kept.open("rb")
        except OSError as error:
            raise InvalidInput(f"{kept} cannot be read: {error.strerror or error}") from error
        return io.BufferedReader(_Unsealed(vault, row["key_id"], sealed, str(kept)))

    payload = payload_from(opened, row["name"])
    if payload.sha256 != sha256:
        raise InvalidInput(f"{kept} is not the payload {sha256[:16]}")
    return payload


def _row(connection: Connection, sha256: str, source: str) -> dict[str, Any] | None:
    table = tables.payload
    wanted = (table.c.payload_sha256 == sha256) & (table.c.source == source)
    found = connection.execute(select(table).where(wanted)).mappings().first()
    return None if found is None else dict(found)


def _seal(vault: Vault, payload: Payload, key_id: str, place: Path) -> None:
    """Writes the sealed copy beside its place, then moves it there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.name}.{secrets.token_hex(4)}.part")
    try:
        with payload.open() as source, part.open("xb") as target:
            digested = _Digested(source)
            vault.seal_file(key_id, cast(BinaryIO, digested), target)
            target.flush()
            os.fsync(target.fileno())
        # A data key seals one content only: another one under it would tell about both.
        if digested.digest.hexdigest() != payload.sha256:
            raise InvalidInput(f"{payload.name} changed while it was read")
        part.chmod(0o400)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


class _Digested(io.RawIOBase):
    """A stream that digests what is read from it."""

    def __init__(self, source: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        block = self._source.read(size)
        self.digest.update(block)
        return block


class _Unsealed(io.RawIOBase):
    """A sealed file as a stream of what was sealed."""

    def __init__(self, vault: Vault, key_id: str, sealed: BinaryIO, name: str) -> None:
        self._sealed = sealed
        self._blocks: Iterator[bytes] = vault.unseal_file(key_id, sealed, name)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any, /) -> int:
        view = memoryview(into)
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        some = self._rest[: len(view)]
        view[: len(some)] = some
        self._rest = self._rest[len(some) :]
        return len(some)

    def close(self) -> None:
        self._sealed.close()
        super().close()
