"""Webhooks: signed as the standard says, sent nowhere that they must not go."""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from tests.receiver import Receiver, receiver

from aiqleads.commerce import webhooks
from aiqleads.commerce.webhooks import Outcome, check_url, post
from aiqleads.errors import InvalidInput


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def send(url: str, *, private: bool = True, deadline_s: float = 5.0, **more: Any) -> Outcome:
    return post(url, {"X": "y"}, b"{}", private=private, deadline_s=deadline_s, **more)


# --- signatures --------------------------------------------------------------------


def test_the_example_of_the_standard() -> None:
    made = webhooks.signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(body=st.binary(max_size=200), at=st.integers(0, 2**40), who=st.text("abc_019", min_size=1))
def test_each_secret_signs_and_nothing_else_fits(body: bytes, at: int, who: str) -> None:
    secrets = [webhooks.new_secret(), webhooks.new_secret()]
    made = webhooks.headers(secrets, who, at, body)
    assert (made["webhook-id"], made["webhook-timestamp"]) == (who, str(at))
    signed = made["webhook-signature"].split(" ")
    for secret, one in zip(secrets, signed, strict=True):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = hmac.digest(key, f"{who}.{at}.".encode() + body, "sha256")
        assert one == f"v1,{base64.b64encode(digest).decode()}"
    assert webhooks.signature(secrets[0], who, at + 1, body) not in signed


def test_secrets_are_long_and_never_the_same() -> None:
    made = {webhooks.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(base64.b64decode(each.removeprefix("whsec_"))) for each in made} == {32}
    with pytest.raises(InvalidInput):
        webhooks.signature("whsec_???", "a", 1, b"")


# --- addresses ---------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.0.0.8",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_address_is_taken_or_reached(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidInput, match="private"):
        check_url(f"https://{host}/x", private=False)
    assert send(f"https://{host}/x", private=False) == Outcome(failure="address-refused")
    named = send("https://crm.example/x", private=False, resolver=lambda *_: [address])
    assert named == Outcome(failure="address-refused")
    mixed = send("https://crm.example/x", private=False, resolver=lambda *_: ["8.8.8.8", address])
    assert mixed == Outcome(failure="address-refused")


@pytest.mark.parametrize(
    "url",
    [
        "http://crm.example/x",
        "ftp://crm.example/x",
        "https://",
        "https:///x",
        "crm.example/x",
        "https://user@crm.example/",
        "https://user:word@crm.example/",
        "https://crm.example:0/",
        "https://crm.example:99999/",
        "https://crm.example/#there",
        "https://crm.example/a b",
        "https://crm.example/\r\nHost: x",
        "https://crmé.example/",
        "https://[::1/",
        "https://localhost/x",
        "https://a.localhost./x",
        "https://crm.example/" + "x" * 2_000,
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidInput) as no:
        check_url(url, private=False)
    assert "crm" not in no.value.detail
    assert send(url, private=False) == Outcome(failure="address-refused")


@pytest.mark.parametrize("url", ["https://crm.example", "https://8.8.8.8:8443/x?token=1"])
def test_public_addresses_are_taken(url: str) -> None:
    check_url(url, private=False)


@given(st.ip_addresses())
def test_an_address_that_python_calls_private_is_never_public(address: Any) -> None:
    if not address.is_global or address.is_multicast:
        assert not webhooks._is_public(address)
    if isinstance(address, ipaddress.IPv4Address):
        mapped = ipaddress.IPv6Address(f"::ffff:{address}")
        assert webhooks._is_public(mapped) == webhooks._is_public(address)


def test_the_connection_goes_to_the_address_that_was_checked(hook: Receiver) -> None:
    """A name is asked once: a second answer could lead elsewhere."""
    asked = []

    def resolver(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    assert send(hook.url(host="crm.example"), resolver=resolver) == Outcome(200)
    assert asked == [("crm.example", hook.port)]
    assert hook.got[0].headers["host"] == f"crm.example:{hook.port}"


@pytest.mark.parametrize("fault", [OSError("no such name"), UnicodeError("bad label")])
def test_a_name_that_nobody_knows(fault: Exception) -> None:
    def resolver(*_: Any) -> list[str]:
        raise fault

    assert send("https://crm.example/", resolver=resolver) == Outcome(failure="unknown-host")
    nothing = send("https://crm.example/", resolver=lambda *_: [])
    assert nothing == Outcome(failure="unknown-host")


# --- what a receiver may do --------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_means_that_it_arrived(hook: Receiver, status: int) -> None:
    hook.script = [status]
    outcome = send(hook.url("/in?a=1"))
    assert (outcome.arrived, outcome.status) == (True, status)
    assert (hook.got[0].path, hook.got[0].body, hook.got[0].headers["x"]) == ("/in?a=1", b"{}", "y")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(hook: Receiver, status: int) -> None:
    hook.script = [(status, {"Location": hook.url("/elsewhere")})]
    assert send(hook.url()) == Outcome(status, f"http-{status}")
    assert [each.path for each in hook.got] == ["/hook"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120.0), ("-5", None), ("Fri, 31 Dec 1999 23:59:59 GMT", None), ("9" * 30, None)],
)
def test_a_receiver_may_ask_for_time(hook: Receiver, text: str, seconds: float | None) -> None:
    hook.script = [(503, {"Retry-After": text})]
    assert send(hook.url()) == Outcome(503, "http-503", seconds)


@pytest.mark.parametrize("how", ["silent", "drip"])
def test_a_try_has_one_deadline_for_everything(hook: Receiver, how: str) -> None:
    hook.script = [how]
    assert send(hook.url(), deadline_s=0.4) == Outcome(failure="timeout")
    assert len(hook.got) == 1


@pytest.mark.parametrize("how", ["hangup", "garbage"])
def test_a_receiver_that_breaks_off_is_unreachable(hook: Receiver, how: str) -> None:
    hook.script = [how]
    assert send(hook.url()) == Outcome(failure="unreachable")


def test_an_endless_answer_is_cut_off(hook: Receiver) -> None:
    hook.script = ["endless"]
    assert send(hook.url(), deadline_s=20.0) == Outcome(200)


def test_nobody_listens(hook: Receiver) -> None:
    with receiver() as other:
        url = other.url()
    assert send(url) == Outcome(failure="unreachable")


# --- encryption --------------------------------------------------------------------


def certificate(folder: Path, name: str) -> Path:
    """A certificate that nobody vouches for, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(pem)
    )
    return file


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver whose certificate is for crm.example and is trusted."""
    file = certificate(tmp_path, "crm.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with receiver(server) as made:
        yield made


def test_the_certificate_must_be_for_the_name_and_not_for_the_address(trusted: Receiver) -> None:
    here = {"resolver": lambda *_: ["127.0.0.1"]}
    assert send(trusted.url(host="crm.example", scheme="https"), **here) == Outcome(200)
    other = send(trusted.url(host="other.example", scheme="https"), **here)
    assert other == Outcome(failure="tls")
    assert send(trusted.url(scheme="https")) == Outcome(failure="tls")
    assert len(trusted.got) == 1


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate(tmp_path, "crm.example"))
    with receiver(server) as hook:
        url = hook.url(host="crm.example", scheme="https")
        assert send(url, resolver=lambda *_: ["127.0.0.1"]) == Outcome(failure="tls")
        assert hook.got == []


def test_a_handshake_that_never_ends_has_the_same_deadline(hook: Receiver) -> None:
    """The plain receiver waits for an end of line that a handshake does not have."""
    outcome = send(hook.url(scheme="https"), deadline_s=0.4)
    assert outcome.failure in ("timeout", "tls", "unreachable")
    assert hook.got == []
