"""Calls of webhooks: over TLS, to a URL or to a Service of this cluster.

A Service is reached at a ready address of its EndpointSlices; the certificate must be for `NAME.NAMESPACE.svc` and
be signed by the `caBundle`. Whatever goes wrong becomes a `CallFailed` with the words that a real server finds.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.store import Store

Object = dict[str, Any]
ANSWER_BYTES_LIMIT = 16 << 20
SERVICE_NAME = "kubernetes.io/service-name"
DEFAULT_PORT = 443
_TEXTS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    403: "forbidden",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    415: "the body of the request was in an unknown format - accepted media types include: ",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


class CallFailed(Exception):
    """No usable answer from a webhook."""


class _Place(NamedTuple):
    """Where a call goes. shown: its URL as messages name it; url: the one to connect to."""

    shown: str
    url: str
    server_name: str | None


class WebhookClient:
    """Keeps connections to webhooks; `close` at the end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, config: Object, body: Object, timeout_seconds: float | None) -> Any:
        """The decoded answer of the webhook that a clientConfig names. Raises CallFailed."""
        shown = ""
        try:
            place = self._place(config, timeout_seconds)
            shown = f'Post "{place.shown}": '
            context = self._context(config.get("caBundle") or "")
            async with asyncio.timeout(timeout_seconds):
                raw = await self._post(place, context, msgspec.json.encode(body))
        except TimeoutError:
            raise CallFailed(f"{shown}context deadline exceeded") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise CallFailed(f"{shown}{_certificate_problem(error)}") from None
        except aiohttp.ClientConnectorError as error:
            place_name = f"{error.host}:{error.port}"
            reason = (error.os_error.strerror or str(error.os_error)).lower()
            if isinstance(error.os_error, ConnectionRefusedError):
                reason = "connection refused"
            raise CallFailed(f"{shown}dial tcp {place_name}: connect: {reason}") from None
        except aiohttp.ServerDisconnectedError:
            raise CallFailed(f"{shown}EOF") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(f"{shown}{error}") from None
        try:
            return msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise CallFailed(f"couldn't get version/kind; json parse error: {error}") from None

    async def _post(self, place: _Place, context: ssl.SSLContext, body: bytes) -> bytes:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        if place.server_name is not None:
            headers["Host"] = place.server_name
        async with self._session.post(
            place.url,
            data=body,
            ssl=context,
            server_hostname=place.server_name,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            raw = await answer.content.read(ANSWER_BYTES_LIMIT)
            while not answer.content.at_eof():
                raw += await answer.content.read(ANSWER_BYTES_LIMIT)
                if len(raw) > ANSWER_BYTES_LIMIT:
                    raise CallFailed("the answer is too long")
            if answer.status >= 300:
                raise CallFailed(_refusal(answer.status, raw))
            return raw

    def _context(self, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is None:
            context = ssl.create_default_context()
            if bundle:
                with contextlib.suppress(binascii.Error, UnicodeDecodeError):
                    context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
            # Bundles of clusters are signed by themselves, and by hand: what Go takes is taken.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if len(self._contexts) > 256:
                self._contexts.clear()
            self._contexts[bundle] = context
        return context

    def _place(self, config: Object, timeout_seconds: float | None) -> _Place:
        query = f"?timeout={int(timeout_seconds)}s" if timeout_seconds else ""
        service: Object | None = config.get("service")
        if service is None:
            url = str(config.get("url") or "")
            query = query.replace("?", "&") if urlsplit(url).query else query
            return _Place(url + query, url + query, None)
        name, namespace = service.get("name", ""), service.get("namespace", "")
        port = service.get("port") or DEFAULT_PORT
        path = "/" + (service.get("path") or "").lstrip("/")
        server_name = f"{name}.{namespace}.svc"
        shown = f"https://{server_name}:{port}{path}{query}"
        try:
            address = self.resolve(namespace, name, port)
        except CallFailed as error:
            raise CallFailed(f'Post "{shown}": {error}') from None
        return _Place(shown, f"https://{address}{path}{query}", server_name)

    def resolve(self, namespace: str, name: str, port: int) -> str:
        """`ADDRESS:PORT` of a ready endpoint behind a port of a Service. Raises CallFailed."""
        entry = self._store.get("services", namespace, name)
        if entry is None:
            raise CallFailed(f'service "{name}" not found')
        spec = entry.peek().get("spec") or {}
        if spec.get("type") == "ExternalName":
            return f"{spec.get('externalName', '')}:{port}"
        port_name = _port_name(spec, name, port)
        for slice_entry in self._store.table("endpointslices.discovery.k8s.io").scan(namespace):
            if slice_entry.labels.get(SERVICE_NAME) != name:
                continue
            found = _ready_address(slice_entry.peek(), port_name)
            if found:
                return found
        raise CallFailed(f'no endpoints available for service "{name}"')


def _port_name(spec: Object, name: str, port: int) -> str:
    for declared in spec.get("ports") or ():
        if declared.get("port") == port:
            return declared.get("name") or ""
    raise CallFailed(f'no service port {port} found for service "{name}"')


def _ready_address(endpoint_slice: Object, port_name: str) -> str:
    ports = [p for p in endpoint_slice.get("ports") or () if (p.get("name") or "") == port_name]
    if not ports:
        return ""
    for endpoint in endpoint_slice.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready", True) and endpoint.get("addresses"):
            address = endpoint["addresses"][0]
            shown = f"[{address}]" if ":" in address else address
            return f"{shown}:{ports[0].get('port')}"
    return ""


def _certificate_problem(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    text = getattr(cause, "verify_message", "") or str(cause)
    if "self-signed" in text or "self signed" in text or "unable to get" in text:
        return "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    if "expired" in text:
        return "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
    return f"tls: failed to verify certificate: x509: {text}"


def _refusal(code: int, raw: bytes) -> str:
    """What an answer that is no success says: the message of its Status, or words for its code."""
    with contextlib.suppress(msgspec.DecodeError):
        decoded: Any = msgspec.json.decode(raw)
        if isinstance(decoded, dict) and decoded.get("kind") == "Status" and decoded.get("message"):
            return str(decoded["message"])
    if code in _TEXTS:
        return _TEXTS[code]
    text = raw[:2048].decode(errors="replace").strip()
    if code >= 500:
        shown = text or "unknown"
        quoted = msgspec.json.encode(shown).decode()
        return f"an error on the server ({quoted}) has prevented the request from succeeding"
    return f"the server responded with the status code {code} but did not return more information"
