"""One agent's connection to the runner: JSON objects, one a line, and descriptors that travel beside them.

A request has an `id` of the caller's choice and an `op`; the answer repeats the id and has `error` where it failed.
Events have no id. A request that brings descriptors is the only one on its connection at that time, so that there is
no doubt whose they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import Any

MAXIMUM_PENDING_BYTES = 16 * 2**20
_MAXIMUM_DESCRIPTORS = 8


class Gone(Exception):
    """The other side closed the connection, or does not read."""


class Connection:
    """A non-blocking socket with a line buffer each way."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.subscribed = False
        self.descriptors: list[int] = []
        self._incoming = b""
        self._outgoing: list[tuple[bytes, list[int]]] = []

    def receive(self) -> list[dict[str, Any]]:
        """The requests that have arrived whole. Raises Gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, 65536, _MAXIMUM_DESCRIPTORS)
        except BlockingIOError:
            return []
        except OSError as error:
            raise Gone from error
        self.descriptors += descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if not data:
            raise Gone
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        return [json.loads(line) for line in lines if line]

    def take_descriptors(self) -> list[int]:
        taken, self.descriptors = self.descriptors, []
        return taken

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Queue and try to write. Raises Gone where the other side does not read."""
        self._outgoing.append((json.dumps(message).encode() + b"\n", descriptors or []))
        self.flush()

    def flush(self) -> bool:
        """Write what can be written; whether all is. Raises Gone."""
        while self._outgoing:
            data, descriptors = self._outgoing[0]
            try:
                sent = socket.send_fds(self.socket, [data], descriptors)
            except BlockingIOError:
                if sum(len(entry[0]) for entry in self._outgoing) > MAXIMUM_PENDING_BYTES:
                    raise Gone from None
                return False
            except OSError as error:
                raise Gone from error
            close_all(descriptors)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], [])
            else:
                del self._outgoing[0]
        return True

    def close(self) -> None:
        close_all(self.descriptors)
        for _, descriptors in self._outgoing:
            close_all(descriptors)
        self._outgoing.clear()
        self.socket.close()


def close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
