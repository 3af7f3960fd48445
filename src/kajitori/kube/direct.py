"""A small synchronous client for commands: one connection, short reads, server-side apply, streams.

It imports neither aiohttp nor msgspec, so that a command starts at once. Controllers use `kajitori.kube.client`.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Self

from kajitori import __version__
from kajitori.base.errors import Unauthorized, Unreachable, api_error
from kajitori.kube.config import ClusterConfig
from kajitori.kube.credentials import Credentials

_TIMEOUT_SECONDS = 30.0
_USER_AGENT = f"kaji/{__version__}"


class DirectClient:
    """Requests to one API server. Errors are `ApiError`s and `Unreachable`; warnings come back from writes."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self._credentials = Credentials(config)
        self._connection: http.client.HTTPConnection | None = None
        split = urllib.parse.urlsplit(config.server)
        self._base_path = split.path.rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(
        self, path: str, *, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> Any:
        """The decoded JSON answer."""
        return json.loads(self.request("GET", path, query=query, accept=accept)[0])

    def text(self, path: str, *, query: Mapping[str, str] | None = None) -> str:
        """The answer as text."""
        return self.request("GET", path, query=query, accept="*/*")[0].decode()

    def apply(
        self, path: str, obj: Mapping[str, Any], query: Mapping[str, str]
    ) -> tuple[dict[str, Any], list[str]]:
        """Server-side apply; returns the object as it is now, and the server's warnings."""
        body, warnings = self.request(
            "PATCH",
            path,
            query=query,
            body=json.dumps(obj).encode(),
            content_type="application/apply-patch+yaml",
        )
        return json.loads(body), warnings

    def delete(self, path: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Delete one object; options: DeleteOptions."""
        body, _ = self.request("DELETE", path, body=json.dumps(options or {}).encode())
        return json.loads(body)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> tuple[bytes, list[str]]:
        """One request; returns the body and the texts of its Warning headers."""
        response = self._send(method, path, query, body, accept, content_type, _TIMEOUT_SECONDS)
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from None
        if response.status >= 400:
            raise _refusal(response.status, data)
        return data, [_warning_text(value) for value in response.headers.get_all("Warning", [])]

    def stream(
        self, path: str, *, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> Iterator[dict[str, Any]]:
        """Each line of the answer, decoded, until the server ends it."""
        for line in self.lines(path, query=query, accept=accept):
            yield json.loads(line)

    def lines(
        self, path: str, *, query: Mapping[str, str] | None = None, accept: str = "*/*"
    ) -> Iterator[bytes]:
        """Each line of a streamed answer, on a connection of its own."""
        client = DirectClient(self.config)
        response = client._send("GET", path, query, None, accept, "application/json", None)
        try:
            if response.status >= 400:
                raise _refusal(response.status, response.read())
            while line := response.readline():
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            client.close()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        accept: str,
        content_type: str,
        timeout_seconds: float | None,
    ) -> http.client.HTTPResponse:
        identity = self._credentials.current()
        headers = dict(identity.headers) | {"Accept": accept, "User-Agent": _USER_AGENT}
        if body is not None:
            headers["Content-Type"] = content_type
        target = self._base_path + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        # A kept connection may have been closed by the server meanwhile: then once more on a new one.
        for fresh in (False, True):
            reused = self._connection is not None
            try:
                connection = self._connect(identity.ssl_context, timeout_seconds)
                connection.request(method, target, body, headers)
                return connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or not reused:
                    raise self._unreachable(error) from None
        raise AssertionError("unreachable")

    def _connect(
        self, context: ssl.SSLContext | None, timeout_seconds: float | None
    ) -> http.client.HTTPConnection:
        if self._connection is None:
            split = urllib.parse.urlsplit(self.config.server)
            host = split.hostname or ""
            if context is not None:
                connection = http.client.HTTPSConnection(
                    host, split.port, timeout=timeout_seconds, context=context
                )
            else:
                connection = http.client.HTTPConnection(host, split.port, timeout=timeout_seconds)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection = connection
        return self._connection

    def _unreachable(self, error: Exception) -> Unreachable:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(
                f"the certificate of {self.config.server} is not trusted: {error.verify_message}",
                hint="is the kubeconfig of an older cluster? `kaji up` writes a new one",
            )
        return Unreachable(
            f"no answer from {self.config.server}: {text.lower()}",
            hint="is the cluster running? `kaji up` starts it, `kaji status` tells",
        )


def _refusal(code: int, body: bytes) -> Exception:
    try:
        status = json.loads(body)
    except ValueError:
        status = {"message": body.decode(errors="replace").strip()[:500], "code": code}
    if not isinstance(status, dict):
        status = {"message": str(status), "code": code}
    error = api_error(status, code)
    if isinstance(error, Unauthorized):
        error.hint = "the kubeconfig's credentials are not accepted"
    return error


def _warning_text(header: str) -> str:
    """The text in `299 - "text"`."""
    _, _, quoted = header.partition('"')
    return quoted.rpartition('"')[0].replace('\\"', '"').replace("\\\\", "\\")
