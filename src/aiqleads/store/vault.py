"""Sealing: a data key for each person or payload, wrapped by the settings' key.

AES-256-GCM throughout (NIST SP 800-38D) with random 96-bit nonces, but for files: there a
key belongs to one content, and the nonce counts its blocks. Who destroys a data key makes
unreadable all that it sealed, in every copy. Matching goes by HMAC-SHA256 under another
key, cut to 128 bits, so that nothing can be looked up with the data keys alone.

Nothing here loads pandas: the serving worker opens contacts through this module.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr
from sqlalchemy import Engine, select, update

from aiqleads.errors import InvalidInput
from aiqleads.settings import Settings
from aiqleads.store.bulk import insert_columns
from aiqleads.store.database import open_room, reader
from aiqleads.store.tables import data_key
from aiqleads.store.transactions import writing

_KEY_BYTES, _NONCE_BYTES, _DIGEST_BYTES = 32, 12, 16
_MANY = 500  # keys in one IN (...)
_MAGIC = b"AIQ1"
_BLOCK_BYTES = 1 << 20


class Vault:
    """Seals and opens under data keys by name; a name never seen gets a key of its own."""

    def __init__(self, engine: Engine, wrapping: bytes, matching: bytes) -> None:
        """engine: the room `vault`. wrapping, matching: 32 bytes each."""
        self.engine = engine
        self._wrap = AESGCM(wrapping)
        self._matching = matching

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The vault under a home; its two keys are made on first use where none are set.

        InvalidInput for a key that is not 32 bytes in base64.
        """
        wrapping = _key(settings, "encryption", settings.encryption_key)
        matching = _key(settings, "matching", settings.matching_key)
        return cls(open_room(settings, "vault"), wrapping, matching)

    def close(self) -> None:
        """Lets go of the connections."""
        self.engine.dispose()

    def seal(
        self, key_ids: Sequence[str], names: Sequence[str], texts: Sequence[bytes]
    ) -> list[bytes]:
        """Each text under the key of that id; `names` say what it is and must come again.

        All of one length. InvalidInput for a key that was destroyed.
        """
        keys = self._keys_made(key_ids)
        made = []
        for key_id, name, text in zip(key_ids, names, texts, strict=True):
            nonce = os.urandom(_NONCE_BYTES)
            made.append(nonce + keys[key_id].encrypt(nonce, text, name.encode()))
        return made

    def unseal(
        self, key_ids: Sequence[str], names: Sequence[str], sealed: Sequence[bytes]
    ) -> list[bytes | None]:
        """What `seal` was given; None where the key was destroyed.

        InvalidInput for what was altered, sealed under another name or by another key.
        """
        keys = self._keys(set(key_ids))
        made: list[bytes | None] = []
        for key_id, name, body in zip(key_ids, names, sealed, strict=True):
            key = keys.get(key_id)
            made.append(None if key is None else _opened(key, body, name.encode(), name))
        return made

    def match(self, texts: Iterable[str]) -> list[bytes]:
        """Keyed digests of 16 bytes: equal for equal texts, and telling nothing else."""
        key = self._matching
        return [hmac.digest(key, text.encode(), "sha256")[:_DIGEST_BYTES] for text in texts]

    def destroy(self, key_ids: Iterable[str], now_us: int) -> int:
        """Destroys data keys for good; how many there were."""
        gone = 0
        with writing(self.engine) as connection:
            for some in _parts(sorted(set(key_ids))):
                there = data_key.c.key_id.in_(some) & data_key.c.wrapped.is_not(None)
                done = update(data_key).where(there).values(wrapped=None, destroyed_us=now_us)
                gone += connection.execute(done).rowcount
        return gone

    def seal_file(self, key_id: str, source: BinaryIO, target: BinaryIO) -> None:
        """Copies a stream sealed, a block at a time; one key id belongs to one content."""
        key = self._keys_made([key_id])[key_id]
        target.write(_MAGIC)
        block, number = source.read(_BLOCK_BYTES), 0
        while True:
            following = source.read(_BLOCK_BYTES)
            nonce = struct.pack(">IQ", 0, number)
            target.write(key.encrypt(nonce, block, b"more" if following else b"last"))
            if not following:
                return
            block, number = following, number + 1

    def unseal_file(self, key_id: str, source: BinaryIO, name: str) -> Iterator[bytes]:
        """The blocks of a stream that `seal_file` wrote; `name` is for the error.

        InvalidInput where it was altered or cut, or its key was destroyed.
        """
        key = self._keys({key_id}).get(key_id)
        if key is None:
            raise InvalidInput(f"{name} cannot be opened: its data key was destroyed")
        if source.read(len(_MAGIC)) != _MAGIC:
            raise InvalidInput(f"{name} is not a sealed file")
        size = _BLOCK_BYTES + 16  # GCM's tag
        block, number = source.read(size), 0
        while True:
            following = source.read(size)
            nonce = struct.pack(">IQ", 0, number)
            yield _opened(key, nonce + block, b"more" if following else b"last", name)
            if not following:
                return
            block, number = following, number + 1

    def _keys(self, key_ids: Iterable[str]) -> dict[str, AESGCM]:
        found: dict[str, AESGCM] = {}
        with reader(self.engine).connect() as connection:
            for some in _parts(sorted(key_ids)):
                query = select(data_key.c.key_id, data_key.c.wrapped)
                for key_id, wrapped in connection.execute(query.where(data_key.c.key_id.in_(some))):
                    if wrapped is not None:
                        name = key_id.encode()
                        found[key_id] = AESGCM(_opened(self._wrap, wrapped, name, "a data key"))
        return found

    def _keys_made(self, key_ids: Sequence[str]) -> dict[str, AESGCM]:
        wanted = set(key_ids)
        found = self._keys(wanted)
        if missing := wanted - found.keys():
            with writing(self.engine) as connection:
                there = {
                    key_id
                    for some in _parts(sorted(missing))
                    for key_id in connection.scalars(
                        select(data_key.c.key_id).where(data_key.c.key_id.in_(some))
                    )
                }
                fresh = {key_id: AESGCM.generate_key(256) for key_id in sorted(missing - there)}
                insert_columns(connection, data_key, self._rows(fresh))
            found |= {key_id: AESGCM(key) for key_id, key in fresh.items()}
            if there:  # another process made them meanwhile, or they were destroyed
                found |= self._keys(there)
        if gone := wanted - found.keys():
            raise InvalidInput(
                f"the data key {min(gone)} was destroyed: nothing more is kept of it"
            )
        return found

    def _rows(self, keys: Mapping[str, bytes]) -> dict[str, list[object]]:
        """Columns of the keys' rows, each key wrapped under its name."""
        now_us, wrapped = time.time_ns() // 1000, []
        for key_id, key in keys.items():
            nonce = os.urandom(_NONCE_BYTES)
            wrapped.append(nonce + self._wrap.encrypt(nonce, key, key_id.encode()))
        made = [now_us] * len(keys)
        return {"key_id": list(keys), "wrapped": list(wrapped), "created_us": list(made)}


def _opened(key: AESGCM, body: bytes, about: bytes, name: str) -> bytes:
    try:
        return key.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], about)
    except (InvalidTag, ValueError) as error:
        raise InvalidInput(
            f"{name} cannot be opened: it was altered, or the key in the settings is another"
        ) from error


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[at : at + _MANY] for at in range(0, len(keys), _MANY))


def _key(settings: Settings, name: str, given: SecretStr | None) -> bytes:
    """The key of the settings, or of a file under data/keys that only its owner reads."""
    if given is not None:
        return _decoded(given.get_secret_value(), f"AIQLEADS_{name.upper()}_KEY")
    file = settings.data / "keys" / f"{name}.key"
    if not file.is_file():
        _make_key(file)
    return _decoded(file.read_text(encoding="ascii"), str(file))


def _make_key(file: Path) -> None:
    """Writes a random key; of two processes that do so at once, one wins for both."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)))
        out.flush()
        os.fsync(out.fileno())
    try:
        os.link(part, file)
    except FileExistsError:
        pass
    finally:
        part.unlink()


def _decoded(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{where} is not base64") from error
    if len(key) != _KEY_BYTES:
        raise InvalidInput(f"{where} holds {len(key)} bytes, not {_KEY_BYTES}")
    return key
