"""A chat platform's HTTP interface on this machine, for bots that only know their library."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

Answer = Callable[[str, dict[str, Any]], Any]


@dataclass
class Platform:
    """Where it is, and what it was asked: paths with what was sent there."""

    url: str
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def sent(self, name: str) -> list[dict[str, Any]]:
        """What was sent to the paths that have `name` in them."""
        return [sent for path, sent in self.asked if name in path]


@contextmanager
def platform(answer: Answer) -> Iterator[Platform]:
    """Answers each request with the JSON that `answer` makes of its path and its fields."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            fields = json.loads(body) if body.startswith("{") else dict(parse_qsl(body))
            path = unquote(parts.path)
            known.asked.append((path, fields))
            reply = json.dumps(answer(path, fields)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_PUT = do_POST  # noqa: N815 - names of the standard library

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name, too
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    known = Platform(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
