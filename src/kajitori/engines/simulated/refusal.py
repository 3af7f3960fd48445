"""A request that is refused, and the body that says so in the shape of OpenAI's API."""

from __future__ import annotations

import msgspec


class Refused(Exception):
    """status: of HTTP. kind: vLLM's name for the error. param: the field that is wrong, None where there is none."""

    def __init__(
        self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": error})


def engine_failed() -> Refused:
    """The engine ended while it made an answer."""
    return Refused(500, "the engine ended before the answer was complete", kind="InternalServerError")
