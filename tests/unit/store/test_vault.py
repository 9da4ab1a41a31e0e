from __future__ import annotations

import io
import stat

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from aiqleads.errors import InvalidInput
from aiqleads.settings import Settings
from aiqleads.store.tables import data_key
from aiqleads.store.vault import Vault


@pytest.fixture
def vault(home: Settings):
    opened = Vault.open(home)
    yield opened
    opened.close()


def test_what_was_sealed_comes_back_and_is_not_readable_before(vault: Vault) -> None:
    sealed = vault.seal(["L1", "L2", "L1"], ["a", "b", "c"], [b"Ada", b"Bob", b""])
    assert not any(b"Ada" in one or b"Bob" in one for one in sealed)
    assert vault.unseal(["L1", "L2", "L1"], ["a", "b", "c"], sealed) == [b"Ada", b"Bob", b""]


def test_two_seals_of_one_text_differ(vault: Vault) -> None:
    one, other = vault.seal(["L1", "L1"], ["a", "a"], [b"Ada", b"Ada"])
    assert one != other


@pytest.mark.parametrize("how", ["another name", "another person", "a bit flipped", "cut"])
def test_what_was_tampered_with_is_refused(vault: Vault, how: str) -> None:
    [sealed] = vault.seal(["L1"], ["a"], [b"Ada"])
    vault.seal(["L2"], ["a"], [b"Bob"])
    key_id = "L2" if how == "another person" else "L1"
    name = "b" if how == "another name" else "a"
    body = sealed[:5] if how == "cut" else sealed
    if how == "a bit flipped":
        body = body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(InvalidInput, match="cannot be opened"):
        vault.unseal([key_id], [name], [body])


def test_a_destroyed_key_opens_nothing_and_is_never_made_again(vault: Vault) -> None:
    sealed = vault.seal(["L1", "L2"], ["a", "b"], [b"Ada", b"Bob"])
    assert vault.destroy(["L1", "L9"], now_us=5) == 1
    assert vault.destroy(["L1"], now_us=6) == 0
    assert vault.unseal(["L1", "L2"], ["a", "b"], sealed) == [None, b"Bob"]
    with pytest.raises(InvalidInput, match="L1 was destroyed"):
        vault.seal(["L1"], ["a"], [b"Ada"])


def test_keys_lie_wrapped_and_their_files_are_the_owners_alone(
    vault: Vault, home: Settings
) -> None:
    vault.seal(["L1"], ["a"], [b"Ada"])
    with vault.engine.connect() as connection:
        wrapped = connection.execute(select(data_key.c.wrapped)).scalar_one()
    assert len(wrapped) == 12 + 32 + 16  # nonce, key, tag
    for name in ("encryption", "matching"):
        mode = (home.data / "keys" / f"{name}.key").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


def test_another_settings_key_opens_nothing(vault: Vault, home: Settings) -> None:
    sealed = vault.seal(["L1"], ["a"], [b"Ada"])
    stranger = home.model_copy(update={"encryption_key": SecretStr("A" * 43 + "=")})
    with pytest.raises(InvalidInput, match="key in the settings is another"):
        Vault.open(stranger).unseal(["L1"], ["a"], sealed)


@pytest.mark.parametrize(("key", "why"), [("???", "not base64"), ("QUJD", "holds 3 bytes")])
def test_a_bad_key_is_named_and_not_shown(home: Settings, key: str, why: str) -> None:
    bad = home.model_copy(update={"matching_key": SecretStr(key)})
    with pytest.raises(InvalidInput, match=f"AIQLEADS_MATCHING_KEY.*{why}") as caught:
        Vault.open(bad)
    assert key not in str(caught.value)


def test_digests_match_equal_texts_under_one_key_alone(vault: Vault, home: Settings) -> None:
    one, same, other = vault.match(["a@b.c", "a@b.c", "a@b.d"])
    assert one == same != other
    assert len(one) == 16
    stranger = home.model_copy(update={"matching_key": SecretStr("A" * 43 + "=")})
    assert Vault.open(stranger).match(["a@b.c"]) != [one]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_comes_back_whole(vault: Vault, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sealed = io.BytesIO()
    vault.seal_file("p1", io.BytesIO(body), sealed)
    sealed.seek(0)
    assert b"".join(vault.unseal_file("p1", sealed, "p1")) == body


@pytest.mark.parametrize("kept", [4, 1 << 20, (1 << 20) + 20, (2 << 20) + 36])
def test_a_cut_file_is_refused(vault: Vault, kept: int) -> None:
    sealed = io.BytesIO()
    vault.seal_file("p1", io.BytesIO(b"y" * (2 << 20) + b"z"), sealed)
    cut = io.BytesIO(sealed.getvalue()[:kept])
    with pytest.raises(InvalidInput, match="p1 cannot be opened"):
        list(vault.unseal_file("p1", cut, "p1"))


def test_a_file_that_is_no_seal_or_has_no_key_is_named(vault: Vault) -> None:
    vault.seal_file("p1", io.BytesIO(b"y"), io.BytesIO())
    with pytest.raises(InvalidInput, match="p1 is not a sealed file"):
        list(vault.unseal_file("p1", io.BytesIO(b"a,b\n"), "p1"))
    with pytest.raises(InvalidInput, match="its data key was destroyed"):
        list(vault.unseal_file("p2", io.BytesIO(b"AIQ1"), "p2"))
