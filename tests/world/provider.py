"""A stand-in for a provider: answers chat completions as OpenAI and Azure do, and writes down what it was sent.

    python provider.py PORT RECORD_FILE NAME

Each request becomes a line of JSON (path, headers, body) in RECORD_FILE before it is answered.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    record_file = ""
    name = ""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with open(self.record_file, "a") as record:
            line = {
                "path": self.path,
                "headers": {k.lower(): v for k, v in self.headers.items()},
                "body": body,
            }
            record.write(json.dumps(line) + "\n")
        if body.get("stream"):
            self._stream(body)
        else:
            self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model", "gpt-4o"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": f"from {self.name}"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        count = int(body.get("max_tokens") or 7)
        for index in range(count):
            self._chunk({"choices": [{"index": 0, "delta": {"content": f"{self.name}-{index} "}}]})
            time.sleep(float(body.get("temperature") or 0))
        self._chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            self._chunk(
                {
                    "choices": [],
                    "usage": {"prompt_tokens": 12, "completion_tokens": count, "total_tokens": 12 + count},
                }
            )
        self._write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: dict[str, Any]) -> None:
        base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
        self._write(b"data: " + json.dumps(base | event).encode() + b"\n\n")

    def _write(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that leaves is nothing to report


if __name__ == "__main__":
    Handler.record_file, Handler.name = sys.argv[2], sys.argv[3]
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
