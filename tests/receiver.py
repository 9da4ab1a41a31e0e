"""A real HTTP receiver on this machine that does as it is told: for tests of webhooks."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Got:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """script: what to do with the next requests: a status, (status, headers), or a word.

    `silent`: never answers. `drip`: answers a byte at a time, without end. `hangup`: closes.
    `garbage`: no HTTP. `endless`: a body without end. An empty script answers 200.
    before: called with each request before it is answered.
    """

    script: list[Any] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    before: Callable[[Got], None] = lambda _got: None
    port: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    told = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            got = Got(self.path, headers, self.rfile.read(length))
            told.got.append(got)
            told.before(got)
            self.answer(told.script.pop(0) if told.script else 200)

        def do_GET(self) -> None:
            told.got.append(Got(f"GET {self.path}", {}, b""))
            self.answer(200)

        def answer(self, what: Any) -> None:
            if isinstance(what, str):
                self.close_connection = True
                getattr(self, what)()
                return
            status, headers = what if isinstance(what, tuple) else (what, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def hangup(self) -> None:
            pass

        def silent(self) -> None:
            told.closing.wait(30)

        def garbage(self) -> None:
            self.wfile.write(b"\x00\xff" * 500 + b"\r\n\r\n")

        def drip(self) -> None:
            self.go_on(b"x")

        def endless(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.go_on(b"x" * 8192, 0.0)

        def go_on(self, piece: bytes, pause: float = 0.02) -> None:
            try:
                while not told.closing.is_set():
                    self.wfile.write(piece)
                    time.sleep(pause)
            except OSError:
                pass

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> Any:
            line, address = super().get_request()
            return (tls.wrap_socket(line, server_side=True) if tls else line), address

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    told.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
