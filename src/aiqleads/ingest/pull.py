"""Pulls a source over HTTP, page by page, and survives what hosts do.

A page is a payload. What a page says of the next one is followed: `@odata.nextLink` in the
body (OData 4) or a Link header with rel=next (RFC 8288). Where the pull stands is kept in
`pull_state` once a page was taken in, so a killed pull goes on at the page it was at, and
the page it may have taken already is found to be a repeat by its digest.

Credentials leave only for the host that the operator named, only over https (http for this
machine alone), and never follow a redirect to another host.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import structlog

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import InvalidInput, NotReady
from aiqleads.ingest.feeds import Options
from aiqleads.ingest.payload import Payload, payload_of
from aiqleads.settings import Settings
from aiqleads.store import pulls
from aiqleads.store.database import open_room, reader
from aiqleads.store.transactions import writing

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

log = structlog.get_logger(__name__)

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_NEXT = ("@odata.nextLink", "@nextLink", "odata.nextLink")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
# A token for the next page dies after a while; then the pull starts at its first page.
_GONE = frozenset({400, 404, 410})
_RESUME_WITHIN_US = US_PER_DAY
_HOPS = 5
_turns: dict[str, float] = {}
_turns_guard = threading.Lock()


@dataclass(frozen=True)
class Patience:
    """How long a host is waited for, and how much is taken from it.

    tries: of one page. first_wait, longest_wait: seconds between tries, drawn up to a bound
    that doubles each time; a host that asks for a longer pause ends the pull. connect,
    read: timeouts in seconds. page_seconds: for a whole page, however slowly it drips.
    page_bytes: of a page, decompressed. pages: of one pull.
    """

    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 120.0
    connect: float = 10.0
    read: float = 30.0
    page_seconds: float = 300.0
    page_bytes: int = 128 * 2**20
    pages: int = 20_000


PATIENCE = Patience()


@dataclass(frozen=True)
class _Answer:
    """What a host answered for one page in the end."""

    status: int
    body: bytes
    headers: httpx.Headers
    links: dict[str | None, dict[str, str]]


class _AgainError(Exception):
    """The same page may be asked for again, after so many seconds where the host says."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


def pages(
    settings: Settings,
    source: str,
    url: str,
    options: Options,
    now_us: int,
    patience: Patience = PATIENCE,
) -> Iterator[Payload]:
    """Payloads of a pull, one a page; none where nothing changed since the last pull.

    A page counts as taken when the next one is asked for: take it in before that. now_us:
    wall clock. InvalidInput for an address or an answer that cannot be used, NotReady for
    a host that did not answer in the end; what came before stays, and the next pull goes
    on there.
    """
    check_address(url, url)
    engine = open_room(settings, "leads")
    try:
        with reader(engine).begin() as connection:
            before = pulls.find(connection, source, url)
        with _client(patience) as client:
            for payload, pull in _walk(client, url, options, now_us, patience, before):
                if payload is not None:
                    yield payload
                with writing(engine) as connection:
                    pulls.keep(connection, source, url, pull)
    finally:
        engine.dispose()


def _walk(
    client: httpx.Client,
    url: str,
    options: Options,
    now_us: int,
    patience: Patience,
    before: pulls.Pull | None,
) -> Iterator[tuple[Payload | None, pulls.Pull]]:
    """Each page (None: it holds no record) with how the pull stands once it is taken in."""
    here, taken, conditions = _start(url, before, now_us)
    resumed = here != url
    etag, modified = (before.etag, before.last_modified) if before and resumed else (None, None)
    seen: set[str] = set()
    while True:
        if here in seen:
            raise InvalidInput(f"{_said(here)}: page {taken + 1} leads back to a page before it")
        seen.add(here)
        answer = _page(client, here, url, options, patience, conditions)
        if resumed and answer.status in _GONE:
            log.info("pull_starts_over", host=urlsplit(url).netloc, status=answer.status)
            here, taken, resumed, etag, modified = url, 0, False, None, None
            continue
        resumed = False
        if answer.status == 304 and before is not None:
            yield None, pulls.Pull(1, now_us, None, before.etag, before.last_modified)
            return
        if answer.status != 200:
            raise InvalidInput(_refusal(here, answer.status))
        if taken == 0:
            etag, modified = answer.headers.get("etag"), answer.headers.get("last-modified")
        taken += 1
        conditions = {}
        following, empty = _following(answer, here, url)
        pull = pulls.Pull(taken, now_us, following, etag, modified)
        payload = None if empty else payload_of(answer.body, _name(url, taken))
        yield payload, pull
        if following is None:
            return
        if taken >= patience.pages:
            raise InvalidInput(f"{_said(url)}: more than {patience.pages:,} pages")
        here = following


def _start(url: str, before: pulls.Pull | None, now_us: int) -> tuple[str, int, dict[str, str]]:
    """Where to begin, the pages taken before, and the conditions of the first request.

    Only a pull of one page is asked for on conditions: of many, the first may be as it
    was while another changed.
    """
    if before is None:
        return url, 0, {}
    if before.next_url is not None:
        fresh = now_us - before.pulled_us < _RESUME_WITHIN_US
        return (before.next_url, before.pages, {}) if fresh else (url, 0, {})
    given = {"If-None-Match": before.etag, "If-Modified-Since": before.last_modified}
    known = {name: value for name, value in given.items() if value}
    return url, 0, known if before.pages == 1 else {}


def check_address(url: str, first: str) -> None:
    """InvalidInput for an address that nothing may be asked of.

    first: the one that the operator named, which alone may be on this machine.
    """
    try:
        parts, home = urlsplit(url), urlsplit(first)
        parts.port  # noqa: B018  # raises ValueError where it is no number
    except ValueError as error:
        raise InvalidInput(f"not an address: {error}") from error
    local = parts.hostname in _LOCAL
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"{_said(url)}: an address starts with https://")
    if parts.username or parts.password:
        raise InvalidInput(f"{_said(url)}: credentials belong in the feed file, not the address")
    if parts.scheme == "http" and not local:
        raise InvalidInput(f"{_said(url)}: only https, as what is pulled may be personal")
    if local and home.hostname not in _LOCAL:
        raise InvalidInput(f"{_said(first)} leads to this machine itself")


def _same_host(url: str, other: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(other)[:2]


def _said(url: str) -> str:
    """An address without its query, which may hold a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _name(url: str, page: int) -> str:
    parts = urlsplit(url)
    last = parts.path.rstrip("/").rpartition("/")[2]
    return "-".join(part for part in (parts.hostname or "", last, f"{page:05d}") if part)


def _client(patience: Patience) -> httpx.Client:
    import httpx

    timeout = httpx.Timeout(patience.read, connect=patience.connect)
    return httpx.Client(timeout=timeout, follow_redirects=False, headers={"User-Agent": "aiqleads"})


def _credentials(options: Options) -> dict[str, str]:
    """`access_token` as a bearer token; written user:password, as Basic."""
    if options.access_token is None:
        return {}
    token = options.access_token.get_secret_value()
    if ":" in token:
        return {"Authorization": f"Basic {base64.b64encode(token.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"}


def _page(
    client: httpx.Client,
    here: str,
    first: str,
    options: Options,
    patience: Patience,
    conditions: dict[str, str],
) -> _Answer:
    """One page in the end, asked for as often as patience has it."""
    from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt

    def wait(state: RetryCallState) -> float:
        return _pause(state, patience)

    retrying = Retrying(
        stop=stop_after_attempt(patience.tries),
        wait=wait,
        retry=retry_if_exception_type(_AgainError),
    )
    try:
        answer: _Answer = retrying(_hops, client, here, first, options, patience, conditions)
    except RetryError as error:
        last = error.last_attempt.exception()
        raise NotReady(f"{_said(here)} did not answer in {patience.tries} tries: {last}") from error
    return answer


def _pause(state: RetryCallState, patience: Patience) -> float:
    """Seconds until the next try: what the host asked for, else a growing draw."""
    from tenacity import wait_random_exponential

    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _AgainError) and error.after is not None:
        if error.after > patience.longest_wait:
            raise NotReady(f"the host asks for a pause of {error.after:,.0f} s")
        return error.after
    grown = wait_random_exponential(multiplier=patience.first_wait, max=patience.longest_wait)
    return float(grown(state))


def _hops(
    client: httpx.Client,
    here: str,
    first: str,
    options: Options,
    patience: Patience,
    conditions: dict[str, str],
) -> _Answer:
    """One request and the redirects it meets; credentials stay with the first host."""
    at = here
    for _ in range(_HOPS):
        check_address(at, first)
        headers = {**conditions, **(_credentials(options) if _same_host(at, first) else {})}
        take_turn(urlsplit(at).netloc, options.requests_per_second)
        answer = _request(client, at, headers, patience)
        if answer.status not in _REDIRECTS:
            return answer
        at = urljoin(at, answer.headers.get("location", ""))
    raise InvalidInput(f"{_said(here)}: redirected more than {_HOPS} times")


def take_turn(host: str, per_second: float) -> None:
    """Waits until this process may ask that host again."""
    with _turns_guard:
        now = time.monotonic()
        turn = max(now, _turns.get(host, 0.0))
        _turns[host] = turn + 1 / per_second
    time.sleep(max(0.0, turn - now))


def _request(
    client: httpx.Client, url: str, headers: dict[str, str], patience: Patience
) -> _Answer:
    import httpx

    deadline = time.monotonic() + patience.page_seconds
    try:
        with client.stream("GET", url, headers=headers) as response:
            if response.status_code in _TRY_AGAIN:
                after = _retry_after(response.headers.get("retry-after"))
                raise _AgainError(f"HTTP {response.status_code}", after)
            body = _body(response, url, deadline, patience)
            links = {link.get("rel"): link for link in response.links.values()}
            return _Answer(response.status_code, body, response.headers, links)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"not an address: {error}") from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise _AgainError(type(error).__name__) from error


def _body(response: httpx.Response, url: str, deadline: float, patience: Patience) -> bytes:
    """The whole decompressed body, if it ends in time and stays within bounds."""
    parts, size = [], 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > patience.page_bytes:
            raise InvalidInput(f"{_said(url)}: a page of more than {patience.page_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise _AgainError(f"a page that took more than {patience.page_seconds:g} s")
        parts.append(chunk)
    return b"".join(parts)


def _retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, a number or a date; None for none."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (zoned - datetime.now(UTC)).total_seconds())


def _refusal(url: str, status: int) -> str:
    if status in (401, 403):
        return f"{_said(url)} answered HTTP {status}: check access_token in the feed file"
    return f"{_said(url)} answered HTTP {status}"


def _following(answer: _Answer, here: str, first: str) -> tuple[str | None, bool]:
    """(the next page, whether this one holds no record).

    InvalidInput for a next page on another host: the credentials would go along.
    """
    page = _json(answer, here)
    link, empty = None, False
    if isinstance(page, dict):
        link = next((page[name] for name in _NEXT if page.get(name)), None)
        empty = page.get("value") == [] and len(answer.body) < 2**20
    elif isinstance(page, list):
        empty = not page
    header = answer.links.get("next", {}).get("url")
    # A page of nothing ends a chain of headers, which some hosts never end themselves.
    if link is None and not empty:
        link = header
    if link is None:
        return None, empty
    following = urljoin(here, str(link))
    check_address(following, first)
    if not _same_host(following, first):
        raise InvalidInput(f"{_said(here)}: the next page lies on another host")
    return following, empty


def _json(answer: _Answer, url: str) -> Any:
    """The body as JSON where the host says that it is; None for anything else."""
    if "json" not in answer.headers.get("content-type", "").lower():
        return None
    try:
        return json.loads(answer.body, strict=False)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{_said(url)}: the answer is no JSON, though it says so") from error
