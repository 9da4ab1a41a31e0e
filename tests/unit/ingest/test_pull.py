"""Pulls from hosts that fail in every way that hosts fail."""

from __future__ import annotations

import email.utils
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import select

from aiqleads.errors import InvalidInput, NotReady
from aiqleads.ingest.feeds import Options
from aiqleads.ingest.payload import Payload
from aiqleads.ingest.pull import Patience, pages
from aiqleads.ingest.trees import get
from aiqleads.settings import Settings
from aiqleads.store.database import open_room
from aiqleads.store.tables import pull_state

NOW = 1_780_000_000_000_000
DAY = 86_400_000_000
QUICK = Patience(
    tries=3, first_wait=0.01, longest_wait=1.0, connect=2.0, read=0.3, page_seconds=1.0
)
FAST = Options(requests_per_second=100)
Answer = Callable[[BaseHTTPRequestHandler], None]


class Host:
    """A server on this machine whose answers are given beforehand, one a request and path.

    The last answer of a path is given again and again. asked: (path, headers) of each
    request.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                given = {name.lower(): value for name, value in self.headers.items()}
                host.asked.append((self.path, given))
                some = host.answers[self.path]
                (some.pop(0) if len(some) > 1 else some[0])(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def on(self, path: str, *answers: Answer) -> str:
        self.answers[path] = list(answers)
        return self.url + path

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


@pytest.fixture
def other_host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


def says(
    body: bytes | object = b"", status: int = 200, kind: str = "application/json", **headers: str
) -> Answer:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(status)
        if status != 304:
            to.send_header("Content-Type", kind)
            to.send_header("Content-Length", str(len(sent)))
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        if status != 304:
            to.wfile.write(sent)

    return answer


def odata(*keys: str, following: str | None = None) -> dict[str, object]:
    page: dict[str, object] = {"value": [{"ListingKey": key} for key in keys]}
    return page | ({"@odata.nextLink": following} if following else {})


def cut(to: BaseHTTPRequestHandler) -> None:
    """Promises more than it sends."""
    to.send_response(200)
    to.send_header("Content-Length", "1000")
    to.end_headers()
    to.wfile.write(b'{"value": [')
    to.close_connection = True


def hangs(to: BaseHTTPRequestHandler) -> None:
    """Says nothing for longer than anyone waits."""
    time.sleep(0.6)
    to.close_connection = True


def drips(to: BaseHTTPRequestHandler) -> None:
    """Sends a byte now and then, so that no single wait is long."""
    to.send_response(200)
    to.send_header("Content-Length", "100000")
    to.end_headers()
    try:
        for _ in range(40):
            to.wfile.write(b" ")
            to.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass
    to.close_connection = True


def keys_of(payloads: Iterator[Payload] | list[Payload]) -> list[str]:
    return [
        get(record, "ListingKey")
        for payload in payloads
        for chunk in payload.chunks("value")
        for record in chunk.rows["record"]
    ]


def pulled(home: Settings, url: str, options: Options = FAST, now_us: int = NOW) -> list[Payload]:
    return list(pages(home, "reso", url, options, now_us, QUICK))


def state(home: Settings) -> dict[str, object]:
    engine = open_room(home, "leads")
    with engine.connect() as connection:
        row = connection.execute(select(pull_state)).mappings().one()
    engine.dispose()
    return dict(row)


def test_pages_are_followed_by_odata_links_whole_and_relative(home: Settings, host: Host) -> None:
    url = host.on("/odata/Property", says(odata("a", "b", following="Property?$skiptoken=b")))
    host.on(
        "/odata/Property?$skiptoken=b",
        says(odata("c", following=host.url + "/odata/Property?$skiptoken=c")),
    )
    host.on("/odata/Property?$skiptoken=c", says(odata("d")))
    payloads = pulled(home, url)
    assert keys_of(payloads) == ["a", "b", "c", "d"]
    assert [payload.name for payload in payloads] == [
        f"127.0.0.1-Property-{page:05d}" for page in (1, 2, 3)
    ]
    assert state(home)["pages"] == 3
    assert state(home)["next_url"] is None


def test_pages_are_followed_by_link_headers_until_one_is_empty(home: Settings, host: Host) -> None:
    forever = '<{0}/properties?lastId=9>; rel="next", <{0}/properties>; rel="first"'
    link = forever.format(host.url)
    url = host.on("/properties", says([{"mlsId": 1}], Link=link))
    host.on("/properties?lastId=9", says([], Link=link))
    assert len(pulled(home, url)) == 1


def test_an_empty_page_between_full_ones_is_passed_over(home: Settings, host: Host) -> None:
    url = host.on("/p", says(odata("a", following="/p2")))
    host.on("/p2", says(odata(following="/p3")))
    host.on("/p3", says(odata("z")))
    assert keys_of(pulled(home, url)) == ["a", "z"]


def test_a_file_that_is_no_json_is_one_page(home: Settings, host: Host) -> None:
    url = host.on("/zhvi.csv", says(b"RegionID,2020-01\n1,2\n", kind="text/csv"))
    (payload,) = pulled(home, url)
    assert payload.format == "csv"


def test_a_gzipped_body_comes_unpacked(home: Settings, host: Host) -> None:
    packed = gzip.compress(json.dumps(odata("a")).encode())
    url = host.on("/p", says(packed, Content_Encoding="gzip"))
    assert keys_of(pulled(home, url)) == ["a"]


@pytest.mark.parametrize(
    "failure",
    [says(status=500), says(status=503), says(status=429), cut, hangs, drips],
    ids=["500", "503", "429", "cut body", "silence", "slow body"],
)
def test_a_failure_that_passes_is_waited_out(home: Settings, host: Host, failure: Answer) -> None:
    url = host.on("/p", failure, says(odata("a")))
    assert keys_of(pulled(home, url)) == ["a"]
    assert len(host.asked) == 2


def test_broken_gzip_is_asked_for_again(home: Settings, host: Host) -> None:
    url = host.on("/p", says(b"not gzip", Content_Encoding="gzip"), says(odata("a")))
    assert keys_of(pulled(home, url)) == ["a"]


def test_a_failure_that_stays_is_said_and_keeps_what_came_before(
    home: Settings, host: Host
) -> None:
    url = host.on("/p", says(odata("a", following="/p2")))
    host.on("/p2", says(status=500))
    taken = []
    with pytest.raises(NotReady, match=r"/p2 did not answer in 3 tries: HTTP 500"):
        taken.extend(pages(home, "reso", url, FAST, NOW, QUICK))
    host.on("/p2", says(odata("b")))
    host.asked.clear()
    assert keys_of(pulled(home, url)) == ["b"]
    assert [path for path, _ in host.asked] == ["/p2"]


def test_nobody_listening_is_not_ready(home: Settings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(NotReady, match="ConnectError"):
        pulled(home, f"http://127.0.0.1:{port}/p")


@pytest.mark.parametrize("pause", ["0.3", "date"])
def test_a_host_that_asks_for_a_pause_gets_it(home: Settings, host: Host, pause: str) -> None:
    when = email.utils.formatdate(time.time() + 1, usegmt=True) if pause == "date" else pause
    url = host.on("/p", says(status=429, Retry_After=when), says(odata("a")))
    begun = time.monotonic()
    assert keys_of(pulled(home, url)) == ["a"]
    if pause != "date":  # a date is whole seconds, so what is left of one may be nothing
        assert time.monotonic() - begun >= float(pause)


def test_a_pause_longer_than_patience_ends_the_pull(home: Settings, host: Host) -> None:
    url = host.on("/p", says(status=429, Retry_After="3600"))
    with pytest.raises(NotReady, match="pause of 3,600 s"):
        pulled(home, url)
    assert len(host.asked) == 1


def test_an_odd_pause_is_none(home: Settings, host: Host) -> None:
    url = host.on("/p", says(status=503, Retry_After="soon"), says(odata("a")))
    assert keys_of(pulled(home, url)) == ["a"]


def test_what_did_not_change_is_not_sent_again(home: Settings, host: Host) -> None:
    changed = "Tue, 03 Mar 2026 10:00:00 GMT"
    url = host.on("/p", says(odata("a"), ETag='"v1"', Last_Modified=changed), says(status=304))
    assert keys_of(pulled(home, url)) == ["a"]
    assert pulled(home, url, now_us=NOW + 1) == []
    asked = host.asked[1][1]
    assert (asked["if-none-match"], asked["if-modified-since"]) == ('"v1"', changed)
    kept = state(home)
    assert (kept["etag"], kept["pages"], kept["pulled_us"]) == ('"v1"', 1, NOW + 1)


def test_a_pull_of_many_pages_sets_no_conditions(home: Settings, host: Host) -> None:
    url = host.on("/p", says(odata("a", following="/p2"), ETag='"v1"'))
    host.on("/p2", says(odata("b")))
    pulled(home, url)
    assert keys_of(pulled(home, url)) == ["a", "b"]
    assert not [True for _, headers in host.asked if "if-none-match" in headers]


def test_a_pull_that_was_killed_goes_on_at_its_page(home: Settings, host: Host) -> None:
    url = host.on("/p", says(odata("a", following="/p2")))
    host.on("/p2", says(odata("b", following="/p3")))
    host.on("/p3", says(odata("c")))
    walk = pages(home, "reso", url, FAST, NOW, QUICK)
    next(walk)
    next(walk)  # the first page is taken in; the second one is under way
    walk.close()
    host.asked.clear()
    assert keys_of(pulled(home, url, now_us=NOW + 5)) == ["b", "c"]
    assert state(home)["pages"] == 3


def test_a_killed_pull_of_yesterday_starts_over(home: Settings, host: Host) -> None:
    url = host.on("/p", says(odata("a", following="/p2")))
    host.on("/p2", says(odata("b")))
    walk = pages(home, "reso", url, FAST, NOW, QUICK)
    next(walk)
    next(walk)
    walk.close()
    assert keys_of(pulled(home, url, now_us=NOW + DAY)) == ["a", "b"]


@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_token_that_died_starts_the_pull_over(home: Settings, host: Host, status: int) -> None:
    url = host.on("/p", says(odata("a", following="/p2")), says(odata("a", following="/p9")))
    host.on("/p2", says(odata("b")), says(status=status))
    host.on("/p9", says(odata("z")))
    walk = pages(home, "reso", url, FAST, NOW, QUICK)
    next(walk)
    next(walk)
    walk.close()
    assert keys_of(pulled(home, url)) == ["a", "z"]


def test_each_source_and_address_stands_by_itself(home: Settings, host: Host) -> None:
    url = host.on("/p", says(odata("a"), ETag='"v1"'))
    pulled(home, url)
    other = host.on("/q", says(odata("b")))
    assert keys_of(pulled(home, other)) == ["b"]
    assert keys_of(pages(home, "zillow", url, FAST, NOW, QUICK)) == ["a"]
    assert "if-none-match" not in host.asked[-1][1]


@pytest.mark.parametrize(("first", "second"), [("/p", "/p"), ("/p2", "/p2"), ("/p2", "/p")])
def test_links_in_a_circle_end(home: Settings, host: Host, first: str, second: str) -> None:
    url = host.on("/p", says(odata("a", following=first)))
    host.on("/p2", says(odata("b", following=second)))
    with pytest.raises(InvalidInput, match="leads back"):
        pulled(home, url)


def test_links_without_end_do_end(home: Settings, host: Host) -> None:
    url = host.on("/p0", says(odata("x", following="/p1")))
    for page in range(1, 5):
        host.on(f"/p{page}", says(odata("x", following=f"/p{page + 1}")))
    with pytest.raises(InvalidInput, match="more than 3 pages"):
        list(pages(home, "reso", url, FAST, NOW, Patience(pages=3)))


@pytest.mark.parametrize(
    ("token", "sent"), [("abc", "Bearer abc"), ("user:secret", "Basic dXNlcjpzZWNyZXQ=")]
)
def test_credentials_go_along(home: Settings, host: Host, token: str, sent: str) -> None:
    url = host.on("/p", says(odata("a", following="/p2")))
    host.on("/p2", says(odata("b")))
    pulled(home, url, Options(requests_per_second=100, access_token=token))
    assert [headers["authorization"] for _, headers in host.asked] == [sent, sent]


def test_redirects_keep_credentials_on_their_host(
    home: Settings, host: Host, other_host: Host
) -> None:
    url = host.on("/p", says(status=302, Location="/moved"))
    host.on("/moved", says(status=307, Location=other_host.url + "/elsewhere"))
    other_host.on("/elsewhere", says(odata("a")))
    options = Options(requests_per_second=100, access_token="abc")
    assert keys_of(pulled(home, url, options)) == ["a"]
    assert [headers.get("authorization") for _, headers in host.asked] == ["Bearer abc"] * 2
    assert "authorization" not in other_host.asked[0][1]


def test_redirects_in_a_circle_end(home: Settings, host: Host) -> None:
    url = host.on("/p", says(status=301, Location="/p"))
    with pytest.raises(InvalidInput, match="redirected more than 5 times"):
        pulled(home, url)


def test_a_next_page_on_another_host_is_refused(
    home: Settings, host: Host, other_host: Host
) -> None:
    url = host.on("/p", says(odata("a", following=other_host.url + "/p2")))
    with pytest.raises(InvalidInput, match="lies on another host"):
        pulled(home, url)
    assert other_host.asked == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://mls.example.com/p", "only https"),
        ("ftp://mls.example.com/p", "starts with https"),
        ("mls.example.com/p", "starts with https"),
        ("https://user:secret@mls.example.com/p", "belong in the feed file"),
        ("https://mls.example.com:port/p", "not an address"),
        ("https:///p", "starts with https"),
    ],
)
def test_an_address_that_may_not_be_asked(home: Settings, url: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        pulled(home, url)
    assert "secret" not in refused.value.detail


def test_a_redirect_out_of_https_is_refused(home: Settings, host: Host) -> None:
    url = host.on("/p", says(status=302, Location="http://mls.example.com/p"))
    with pytest.raises(InvalidInput, match="only https"):
        pulled(home, url)


@pytest.mark.parametrize(
    ("status", "why"), [(401, "check access_token"), (403, "check access_token"), (404, "HTTP 404")]
)
def test_a_refusal_is_said_at_once(home: Settings, host: Host, status: int, why: str) -> None:
    url = host.on("/p?access_token=hidden", says(status=status))
    with pytest.raises(InvalidInput, match=why) as refused:
        pulled(home, url)
    assert len(host.asked) == 1
    assert "hidden" not in refused.value.detail


def test_a_body_beyond_all_bounds_is_refused_unpacked_or_not(home: Settings, host: Host) -> None:
    bomb = gzip.compress(b" " * 3_000_000)
    url = host.on("/p", says(bomb, Content_Encoding="gzip"))
    with pytest.raises(InvalidInput, match="more than 1,000,000 bytes"):
        list(pages(home, "reso", url, FAST, NOW, Patience(page_bytes=1_000_000)))


def test_json_that_is_none_is_refused(home: Settings, host: Host) -> None:
    url = host.on("/p", says(b"<html>maintenance</html>"))
    with pytest.raises(InvalidInput, match="no JSON, though it says so"):
        pulled(home, url)


def test_a_host_is_asked_no_more_often_than_allowed(home: Settings, host: Host) -> None:
    for page in range(5):
        following = f"/p{page + 1}" if page < 4 else None
        host.on(f"/p{page}", says(odata(f"{page}", following=following)))
    begun = time.monotonic()
    pulled(home, host.url + "/p0", Options(requests_per_second=10))
    assert time.monotonic() - begun >= 0.4
