"""Stands in for providers: answers with the credential that it was sent. `provider.py PORT`."""

import contextlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMES = ("authorization", "x-api-key", "api-key")


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # Envoy closes connections when it likes
            super().handle()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        sent = [f"{name}: {self.headers[name]}" for name in NAMES if name in self.headers]
        body = json.dumps({"path": self.path, "sent": sent}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
