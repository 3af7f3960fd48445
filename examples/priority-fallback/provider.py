"""A stand-in for a provider: answers every chat as it is told to. `python provider.py PORT NAME [STATUS [RETRY_AFTER]]`"""

import contextlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, NAME = int(sys.argv[1]), sys.argv[2]
STATUS = int(sys.argv[3]) if len(sys.argv) > 3 else 200
RETRY_AFTER = sys.argv[4] if len(sys.argv) > 4 else ""


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # Envoy closes connections when it likes
            super().handle()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": f"I am {NAME}."}
        answer = {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
        }
        body = json.dumps(answer if STATUS == 200 else {"error": {"message": f"{NAME} is busy"}}).encode()
        self.send_response(STATUS)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if RETRY_AFTER:
            self.send_header("retry-after", RETRY_AFTER)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Provider).serve_forever()
