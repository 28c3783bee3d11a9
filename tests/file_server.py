"""A web server on this machine that serves one file, as well or as badly as a test wants."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What is served and how; a test may change it between requests."""

    content: bytes
    ranges: bool = True  # answers Range requests
    lengths: bool = True  # says how long the answer is
    shift: int = 0  # answers Range requests from so many bytes too late
    cuts: list[int] = field(default_factory=list)  # connection k closes after so many bytes
    reset: bool = False  # closes with a reset rather than quietly
    statuses: list[int] = field(default_factory=list)  # request k gets this error instead
    asked: list[str | None] = field(default_factory=list)  # the Range of every request
    url: str = ""


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Serves until the end of the block, under `served.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answers as `served` says."""
            asked = self.headers["Range"]
            served.asked.append(asked)
            if served.statuses:
                self.send_error(served.statuses.pop(0))
                return
            first = int(match[1]) if served.ranges and (match := re.match(r"bytes=(\d+)-", asked or "")) else None
            if first is not None and first >= len(served.content):
                self.send_error(416)
                return
            start = (first or 0) + (served.shift if first else 0)
            body = served.content[start:]
            self.send_response(200 if first is None else 206)
            if first is not None:
                total = len(served.content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            if served.lengths:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: served.cuts.pop(0)] if served.cuts else body)
            self.wfile.flush()
            self.close_connection = True
            if served.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Says nothing of connections that the client closed, or that a reset ended."""

    with Server(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/file.bin"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
