"""Proofs of origin: each sender's scheme, byte by byte, and what is no proof."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from aiqleads.errors import AccessDenied, InvalidInput, UnknownName
from aiqleads.ingest.feeds import Options
from aiqleads.ingest.origin import challenge_answer, delivery_of, proof_of, signature
from aiqleads.ingest.sources import SOURCES

NOW_US = 1_767_225_600_000_000
SECRET = "s3cret"
BODY = b'{"lead": 1}'


def options(**more: Any) -> Options:
    return Options(market="town", secret=SecretStr(SECRET), **more)


def digest(message: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def ours(
    header: str | None = None, body: bytes = BODY, now_us: int = NOW_US, **headers: str
) -> str:
    sent = signature(SECRET, body, now_us) if header is None else header
    given = {"X-AIQLeads-Signature": sent, **headers}
    return delivery_of("leads_csv", options(), given, body, NOW_US)


def meta(body: bytes, header: str | None = None) -> str:
    sent = f"sha256={digest(body)}" if header is None else header
    return delivery_of("meta_leads", options(), {"x-hub-signature-256": sent}, body, NOW_US)


def google(told: Any) -> str:
    return delivery_of("google_leads", options(), {}, json.dumps(told).encode(), NOW_US)


def linkedin(body: bytes, header: str) -> str:
    return delivery_of("linkedin_leads", options(), {"X-LI-Signature": header}, body, NOW_US)


# --- closed unless the operator opens it -------------------------------------------


@pytest.mark.parametrize("what", [None, Options(), Options(secret=SecretStr(""))])
def test_a_source_without_a_secret_is_closed(what: Options | None) -> None:
    with pytest.raises(UnknownName, match="no feed 'meta_leads' is open"):
        delivery_of("meta_leads", what, {}, BODY, NOW_US)
    with pytest.raises(UnknownName):
        challenge_answer("meta_leads", what, {})


def test_each_pushed_source_proves_itself_as_it_says() -> None:
    for name, source in SOURCES.items():
        wanted = "hmac" if source.proof == "none" else source.proof
        assert proof_of(name, options()) == (wanted, SECRET)


def test_the_feed_file_may_choose_another_proof() -> None:
    assert proof_of("meta_leads", options(proof="hmac"))[0] == "hmac"


# --- ours --------------------------------------------------------------------------


def test_a_signed_body_is_named_by_its_digest() -> None:
    assert ours() == hashlib.sha256(BODY).hexdigest()


def test_the_signature_is_the_documented_one() -> None:
    at = NOW_US // 1_000_000
    assert signature(SECRET, BODY, NOW_US) == f"t={at},v1={digest(f'{at}.'.encode() + BODY)}"


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_within_five_minutes_a_signature_holds(seconds: int) -> None:
    assert ours(now_us=NOW_US + seconds * 1_000_000)


@pytest.mark.parametrize("seconds", [-301, 301, 10**9])
def test_an_old_or_early_signature_is_refused(seconds: int) -> None:
    with pytest.raises(AccessDenied, match="five minutes") as caught:
        ours(now_us=NOW_US + seconds * 1_000_000)
    assert caught.value.status == 403


def test_one_of_two_signatures_is_enough_while_a_secret_changes() -> None:
    at, wanted = signature(SECRET, BODY, NOW_US).split(",")
    assert ours(f"{at},v1={'0' * 64},{wanted}")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1",
        "v1=ab",
        f"t={NOW_US // 10**6},v1=",
        f"t={NOW_US // 10**6},v1={'0' * 64}",
        f"t={NOW_US // 10**6},v1=é",
        f"t={NOW_US // 10**6},t=1,v1={'0' * 64}",
        f"t=²,v1={'0' * 64}",
        f"t={'9' * 4000},v1={'0' * 64}",
        f"t=-1,v1={'0' * 64}",
    ],
)
def test_no_signature_of_ours(header: str) -> None:
    with pytest.raises(AccessDenied):
        ours(header)


@given(body=st.binary(max_size=200), other=st.binary(max_size=200))
def test_a_signature_is_of_one_body_only(body: bytes, other: bytes) -> None:
    header = {"x-aiqleads-signature": signature(SECRET, body, NOW_US)}
    assert delivery_of("leads_csv", options(), header, body, NOW_US)
    if other != body:
        with pytest.raises(AccessDenied):
            delivery_of("leads_csv", options(), header, other, NOW_US)


def test_a_named_delivery_keeps_its_name_and_its_body_apart() -> None:
    first = ours(**{"x-aiqleads-delivery": "d-7"})
    second = ours(body=b"other", **{"x-aiqleads-delivery": "d-7"})
    assert first.startswith("d-7:")
    assert first != second
    assert len(first) <= 120


@pytest.mark.parametrize("name", ["with space", "x" * 65, "é", "-", "a\nb"])
def test_a_strange_name_of_a_delivery_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="X-AIQLeads-Delivery"):
        ours(**{"x-aiqleads-delivery": name})


# --- Meta --------------------------------------------------------------------------


def notification(*ids: object) -> bytes:
    changes = [{"field": "leadgen", "value": {"leadgen_id": each}} for each in ids]
    return json.dumps({"object": "page", "entry": [{"changes": changes}]}).encode()


def test_meta_signs_the_raw_body() -> None:
    body = b'{ "entry" :\t[] }'
    assert meta(body) == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("header", ["", "sha256=", f"sha256={'0' * 64}", digest(BODY), "sha1=x"])
def test_no_signature_of_meta(header: str) -> None:
    with pytest.raises(AccessDenied):
        meta(BODY, header)


def test_notifications_of_the_same_leads_are_one_delivery() -> None:
    first = meta(notification("11", "12"))
    assert first == meta(notification(12, 11)) != meta(notification("11"))
    assert first.startswith("leadgen:")


@pytest.mark.parametrize(
    "body",
    [b"[]", b"no json", b'{"entry": [1, {"changes": [{"field": "feed"}, 2]}]}', b"[" * 9_000],
)
def test_what_announces_no_lead_is_named_by_its_digest(body: bytes) -> None:
    assert meta(body) == hashlib.sha256(body).hexdigest()


def subscription(**more: str) -> dict[str, str]:
    given = {"mode": "subscribe", "verify_token": "tok", "challenge": "1158201444", **more}
    return {f"hub.{name}": value for name, value in given.items()}


def test_meta_confirms_a_subscription() -> None:
    opened = options(verify_token=SecretStr("tok"))
    assert challenge_answer("meta_leads", opened, subscription()) == "1158201444"


@pytest.mark.parametrize("token", ["", "tök", "tok "])
def test_a_wrong_verify_token_is_refused(token: str) -> None:
    opened = options(verify_token=SecretStr("tok"))
    with pytest.raises(AccessDenied):
        challenge_answer("meta_leads", opened, subscription(verify_token=token))


def test_without_a_verify_token_nothing_is_confirmed() -> None:
    with pytest.raises(AccessDenied):
        challenge_answer("meta_leads", options(), subscription(verify_token=""))


@pytest.mark.parametrize("odd", [{"mode": "x"}, {"challenge": ""}, {"challenge": "<script>"}])
def test_an_odd_challenge_is_not_echoed(odd: dict[str, str]) -> None:
    opened = options(verify_token=SecretStr("tok"))
    with pytest.raises(InvalidInput):
        challenge_answer("meta_leads", opened, subscription(**odd))


# --- Google ------------------------------------------------------------------------


def test_google_sends_its_key_in_the_body() -> None:
    assert google({"google_key": SECRET, "lead_id": "Te-1"}).startswith("Te-1:")
    assert ":" not in google({"google_key": SECRET})


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        {"google_key": ""},
        {"google_key": "S3CRET"},
        {"google_key": 5},
        {"google_key": "\ud800"},
    ],
)
def test_no_key_of_google(told: Any) -> None:
    with pytest.raises(AccessDenied):
        google(told)


# --- LinkedIn ----------------------------------------------------------------------


def test_linkedin_signs_the_body_either_way_its_documentation_reads() -> None:
    body = b'{"notificationId": 7}'
    for header in (
        f"hmacsha256={digest(body)}",
        f"hmacsha256={digest(b'hmacsha256=' + body)}",
        digest(b"hmacsha256=" + body),
    ):
        assert linkedin(body, header).startswith("7:")


@pytest.mark.parametrize("header", ["", "hmacsha256=", f"hmacsha256={'0' * 64}", "é"])
def test_no_signature_of_linkedin(header: str) -> None:
    with pytest.raises(AccessDenied):
        linkedin(BODY, header)


def test_linkedin_confirms_an_address() -> None:
    # The pair of its documentation does not come with its secret: only the scheme is known.
    code = "890e4665-4dfe-4ab1-b689-ed553bceeed0"
    wanted = {"challengeCode": code, "challengeResponse": digest(code.encode())}
    assert challenge_answer("linkedin_leads", options(), {"challengeCode": code}) == wanted


@pytest.mark.parametrize("code", ["", "{}", "hmacsha256={}", '{"formResponse": {}}'])
def test_linkedin_gets_nothing_signed_but_a_uuid(code: str) -> None:
    with pytest.raises(InvalidInput):
        challenge_answer("linkedin_leads", options(), {"challengeCode": code})


@pytest.mark.parametrize("source", ["google_leads", "leads_csv"])
def test_who_asks_no_challenge_gets_none(source: str) -> None:
    with pytest.raises(UnknownName):
        challenge_answer(source, options(), {"challengeCode": "x"})
