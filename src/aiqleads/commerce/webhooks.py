"""Signed webhooks to addresses that agents gave (Standard Webhooks 1.0.0), sent with care.

An address is somebody else's word: its host is resolved here and the connection goes to the
very address that was checked, so that no name leads into our own network, also not one whose
answer changes between two questions. Redirects are not followed. A try has one deadline for
everything, however slowly an answer drips, and of the answer only the status is kept.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import http.client
import ipaddress
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from aiqleads.errors import InvalidInput

#: of a signing secret
PREFIX = "whsec_"
#: for all of one try, seconds
DEADLINE_SECONDS = 10.0
#: of an answer's body, which is thrown away
_ANSWER_BYTES = 64 * 1024
_SECRET_BYTES = 32
_LONGEST_URL = 2_000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolve = Callable[[str, int], Sequence[str]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Outcome:
    """What became of one try. status: of the answer. failure: '' where it arrived.

    retry_after_s: what the receiver asked for, seconds from now.
    """

    status: int | None = None
    failure: str = ""
    retry_after_s: float | None = None

    @property
    def arrived(self) -> bool:
        """Whether the receiver said that it has it."""
        return not self.failure


# --- signatures --------------------------------------------------------------------


def new_secret() -> str:
    """A signing secret: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature(secret: str, event_id: str, timestamp_s: int, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64.

    InvalidInput for a secret that is none.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("the signing secret is not base64") from error
    signed = f"{event_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def headers(signing: Sequence[str], event_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook; one signature for each secret, so that a receiver may change."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "AIQLeads-Webhooks/1",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(
            signature(secret, event_id, timestamp_s, body) for secret in signing
        ),
    }


# --- addresses ---------------------------------------------------------------------


def check_url(url: str, *, private: bool) -> None:
    """Whether an address may be told to us at all; its name is resolved only when it is used.

    private: this machine and private networks are allowed, and http to them. InvalidInput
    says why not, without repeating the address: it may hold a secret.
    """
    _parts(url, private=private)


def _parts(url: str, *, private: bool) -> SplitResult:
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput(f"an address is at most {_LONGEST_URL} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput("the address cannot be read") from error
    if parts.scheme not in (("https", "http") if private else ("https",)):
        raise InvalidInput("the address must begin with https://: what is sent is personal")
    if not parts.hostname or parts.username is not None or parts.password is not None or port == 0:
        raise InvalidInput("the address needs a host, and no user or password")
    if "#" in url:
        raise InvalidInput("the address must not have a fragment")
    with suppress(ValueError):  # a name, not an address: asked when it is used
        if not private and not _is_public(ipaddress.ip_address(parts.hostname)):
            raise InvalidInput("the address lies in a private network")
    if not private and parts.hostname.rstrip(".").rpartition(".")[2] == "localhost":
        raise InvalidInput("the address lies in a private network")
    return parts


def _is_public(address: _Address) -> bool:
    """Whether an address is one of the public internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if address in _NAT64:
            return _is_public(ipaddress.IPv4Address(address.packed[-4:]))
        if address.sixtofour is not None or address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host, as the system knows them. OSError where it knows none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


# --- sending -----------------------------------------------------------------------


def post(
    url: str,
    given: dict[str, str],
    body: bytes,
    *,
    private: bool,
    deadline_s: float = DEADLINE_SECONDS,
    resolver: Resolve = resolve,
) -> Outcome:
    """Sends one request and says what became of it; nothing is raised for a host's faults.

    private: as in `check_url`. resolver: asked once; the connection goes to what it said.
    """
    try:
        parts = _parts(url, private=private)
    except InvalidInput:
        return Outcome(failure="address-refused")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    host = str(parts.hostname)
    try:
        addresses = resolver(host, port)
    except (OSError, UnicodeError):
        return Outcome(failure="unknown-host")
    if not addresses:
        return Outcome(failure="unknown-host")
    # One private address among public ones is refused too: the next question may pick it.
    if not private and not all(_is_public(_ip(each)) for each in addresses):
        return Outcome(failure="address-refused")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    whole = {"Host": parts.netloc, "Connection": "close", **given}
    tls = ssl.create_default_context() if secure else None
    watch = _Watch()
    try:
        with watch.until(deadline_s):
            plain = watch.of(socket.create_connection((addresses[0], port), timeout=deadline_s))
            line = _encrypted(plain, tls, host, watch) if tls else plain
            return _exchange(line, host, port, path, whole, body, deadline_s)
    except TimeoutError:
        return Outcome(failure="timeout")
    except ssl.SSLError:
        return Outcome(failure="timeout" if watch.is_over else "tls")
    except (OSError, http.client.HTTPException, ValueError):
        return Outcome(failure="timeout" if watch.is_over else "unreachable")


def _encrypted(
    plain: socket.socket, tls: ssl.SSLContext, host: str, watch: _Watch
) -> ssl.SSLSocket:
    # Watched before the handshake: from the wrapping on the plain socket is an empty shell.
    line = tls.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    watch.of(line)
    line.do_handshake()
    return line


def _ip(text: str) -> _Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _exchange(
    line: socket.socket,
    host: str,
    port: int,
    path: str,
    whole: dict[str, str],
    body: bytes,
    deadline_s: float,
) -> Outcome:
    connection = http.client.HTTPConnection(host, port, timeout=deadline_s)
    connection.sock = line
    try:
        connection.request("POST", path, body, whole)
        answer = connection.getresponse()
        status = answer.status
        later = _retry_after(answer.getheader("Retry-After"))
        # Read a little, so that an orderly receiver is not cut off while it writes.
        with suppress(OSError, http.client.HTTPException):
            answer.read(_ANSWER_BYTES)
    finally:
        connection.close()
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Outcome(status)
    return Outcome(status, f"http-{status}", later)


def _retry_after(text: str | None) -> float | None:
    """Seconds that a receiver asks for; a date is not worth its clock."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > len("86400"):
        return None
    return float(text)


class _Watch:
    """Cuts a connection off when its time is over: a timeout of the socket is per read only."""

    def __init__(self) -> None:
        self.is_over = False
        self._guard = threading.Lock()
        self._line: socket.socket | None = None

    def of(self, line: socket.socket) -> socket.socket:
        """The line to watch from here on."""
        with self._guard:
            self._line = line
            if self.is_over:
                self._cut()
        return line

    @contextmanager
    def until(self, seconds: float) -> Iterator[None]:
        """The time begins to run here; the line is closed at the end."""
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._guard:
                if self._line is not None:
                    with suppress(OSError):
                        self._line.close()

    def _end(self) -> None:
        with self._guard:
            self.is_over = True
            self._cut()

    def _cut(self) -> None:
        if self._line is not None:
            with suppress(OSError):
                # Of an encrypted line as well: what lies below it is what waits.
                socket.socket.shutdown(self._line, socket.SHUT_RDWR)
