"""The Stripe stand-in as a real HTTP server on 127.0.0.1, for tests over a socket.

The road inside the process is in `payments`, which alone knows Stripe's SDK.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiqleads.commerce.stripe_standin import StandIn


def _handler(standin: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            status, headers, payload = standin.handle(
                self.command, self.path, dict(self.headers), body
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps the terminal quiet."""

    return Handler


@contextmanager
def serve(standin: StandIn, port: int = 0) -> Iterator[str]:
    """Serves the stand-in on 127.0.0.1 while the context lasts; yields its base address.

    port 0 takes a free one.
    """
    with ThreadingHTTPServer(("127.0.0.1", port), _handler(standin)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
