from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.ingest.payload import Payload, open_payload, payload_of
from aiqleads.ingest.raw import keep_raw, open_raw
from aiqleads.settings import Settings
from aiqleads.store import tables
from aiqleads.store.database import open_room
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

BODY = b"name,email\n" + b"Ann Example,ann@example.com\n" * 100_000  # more than a sealed block
NOW = 1_700_000_000_000_000
DAY = 86_400_000_000


@pytest.fixture
def vault(home: Settings) -> Iterator[Vault]:
    made = Vault.open(home)
    yield made
    made.close()


@pytest.fixture
def connection(home: Settings) -> Iterator[Connection]:
    engine = open_room(home, "leads")
    with writing(engine) as made:
        yield made
    engine.dispose()


def _files(home: Settings) -> list[str]:
    return sorted(
        str(path.relative_to(home.data)) for path in home.data.glob("raw/**/*") if path.is_file()
    )


@pytest.mark.parametrize("body", [BODY, gzip.compress(BODY, mtime=0), b"a\n1\n"])
def test_a_payload_is_kept_sealed_and_opened_again(
    home: Settings, vault: Vault, connection: Connection, body: bytes
) -> None:
    payload = payload_of(body, "https://example.com/leads?page=2")
    row = keep_raw(connection, vault, home, "redfin", payload, NOW)
    assert _files(home) == [row["kept_at"]]
    assert row["kept_at"] == f"raw/redfin/2023-11-14/{payload.sha256[:16]}-leads_page_2.sealed"
    kept = (home.data / row["kept_at"]).read_bytes()
    assert body[:50] not in kept
    assert b"example.com" not in kept
    again = open_raw(home, vault, connection, payload.sha256, "redfin")
    assert (again.sha256, again.size, again.format) == (payload.sha256, len(body), "csv")
    assert (again.name, again.path) == (payload.name, None)
    with again.open() as stream:
        assert stream.read() == body
    assert sum(len(chunk.rows) for chunk in again.chunks()) in (1, 100_000)


def test_keeping_again_changes_nothing(
    home: Settings, vault: Vault, connection: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(BODY)
    first = keep_raw(connection, vault, home, "redfin", open_payload(path), NOW)
    assert keep_raw(connection, vault, home, "redfin", payload_of(BODY, "b"), NOW + DAY) == first
    assert _files(home) == [first["kept_at"]]
    other = keep_raw(connection, vault, home, "craigslist", open_payload(path), NOW + DAY)
    assert other["kept_at"].startswith("raw/craigslist/2023-11-15/")
    assert len(connection.execute(select(tables.payload)).all()) == 2


def test_a_copy_that_was_lost_is_made_again(
    home: Settings, vault: Vault, connection: Connection
) -> None:
    payload = payload_of(BODY, "a.csv")
    row = keep_raw(connection, vault, home, "redfin", payload, NOW)
    place = home.data / row["kept_at"]
    was = place.read_bytes()
    place.unlink()
    with pytest.raises(InvalidInput, match="cannot be read"):
        open_raw(home, vault, connection, payload.sha256, "redfin")
    assert keep_raw(connection, vault, home, "redfin", payload, NOW + DAY) == row
    assert place.read_bytes() == was


def test_what_was_never_kept_altered_or_destroyed_is_not_opened(
    home: Settings, vault: Vault, connection: Connection
) -> None:
    payload = payload_of(BODY, "a.csv")
    with pytest.raises(UnknownName, match="of source redfin is kept"):
        open_raw(home, vault, connection, payload.sha256, "redfin")
    row = keep_raw(connection, vault, home, "redfin", payload, NOW)
    place = home.data / row["kept_at"]
    sealed = place.read_bytes()
    place.chmod(0o600)
    place.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(InvalidInput, match="was altered"):
        open_raw(home, vault, connection, payload.sha256, "redfin")
    place.write_bytes(sealed)
    vault.destroy([row["key_id"]], NOW)
    with pytest.raises(InvalidInput, match="key was destroyed"):
        open_raw(home, vault, connection, payload.sha256, "redfin")


def test_one_key_seals_one_content(home: Settings, vault: Vault, connection: Connection) -> None:
    payload = payload_of(BODY, "a.csv")
    other = payload_of(BODY + b"Ben Example,ben@example.com\n", "a.csv")
    mixed = Payload(**{**vars(payload), "open": other.open})
    with pytest.raises(InvalidInput, match="changed while it was read"):
        keep_raw(connection, vault, home, "redfin", mixed, NOW)
    assert _files(home) == []
    keep_raw(connection, vault, home, "redfin", payload, NOW)
    moved = tables.payload.update().values(payload_sha256=other.sha256)
    connection.execute(moved)
    with pytest.raises(InvalidInput, match="is not the payload"):
        open_raw(home, vault, connection, other.sha256, "redfin")
