"""A mail server and a web hook that only receive, to see what is sent to them."""

from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Iterator
from typing import Any


class Mail(socketserver.StreamRequestHandler):
    """As much of a mail server as it takes to receive a message."""

    def handle(self) -> None:
        self.say(b"220 sink")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"DATA":
                self.say(b"354 go on")
                lines = []
                while (part := self.rfile.readline()) != b".\r\n":
                    lines.append(part.removeprefix(b".") if part.startswith(b"..") else part)
                self.server.received.append(b"".join(lines))  # type: ignore[attr-defined]
                self.say(b"250 taken")
            elif word == b"QUIT":
                self.say(b"221 bye")
                return
            else:
                self.say(b"250 ok")

    def say(self, text: bytes) -> None:
        self.wfile.write(text + b"\r\n")


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes what is posted; answers with the server's ``answer``."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(body)  # type: ignore[attr-defined]
        self.send_response(self.server.answer)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def serve(handler: Any, kind: Any) -> Iterator[Any]:
    server = kind(("127.0.0.1", 0), handler)
    server.received, server.answer = [], 200
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def mail_url(server: Any) -> str:
    return (
        f"mailto://127.0.0.1:{server.server_address[1]}?from=focusnb@example.org&to=operator@example.org&mode=insecure"
    )


def hook_url(server: Any) -> str:
    return f"json://127.0.0.1:{server.server_address[1]}/alerts"
