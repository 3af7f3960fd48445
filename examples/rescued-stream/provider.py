"""Stands in for providers: the first one breaks off in the middle, the second goes on. `provider.py PORT [breaks]`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BREAKS = "breaks" in sys.argv
WORDS = ["Once ", "upon ", "a ", "time", "."]


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        last = asked["messages"][-1]
        # The text so far comes as the beginning of the assistant's message.
        told = len(last["content"].split()) if last["role"] == "assistant" else 0
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for word in WORDS[told : 2 if BREAKS else None]:
            event = {"id": "a", "choices": [{"index": 0, "delta": {"content": word}}]}
            self.send(f"data: {json.dumps(event)}\n\n")
        if not BREAKS:
            self.send("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def send(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def log_message(self, format: str, *args: object) -> None: ...


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
