"""Discovery and OpenAPI over HTTP: which document a path means, in which form, and how long clients may keep it."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from kajitori.laptop.apiserver.answers import rendered
from kajitori.laptop.apiserver.negotiation import media_range

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

    from kajitori.laptop.apiserver.discovery import Document
    from kajitori.laptop.apiserver.request import Query
    from kajitori.laptop.apiserver.state import ServerState

YEAR_SECONDS = 365 * 24 * 3_600


async def answer_document(
    state: ServerState, http: BaseRequest, path: str, query: Query
) -> web.StreamResponse | None:
    """Discovery below `/api` and `/apis`, `/openapi/...`; None for what is not served."""
    parts = path.strip("/").split("/")
    if parts[0] == "openapi":
        return await _openapi(state, http, parts[1:], query)
    if parts[0] not in ("api", "apis"):
        return None
    return await _discovery(state, http, parts)


def _wanted_aggregate(accept: str) -> str:
    """Version of the aggregated form that the client would rather have than the older form; empty if none."""
    for item in accept.split(","):
        _, options = media_range(item)
        if options.get("g") == "apidiscovery.k8s.io" and options.get("v") in ("v2", "v2beta1"):
            return options["v"]
        if not options.get("as"):
            return ""
    return ""


async def _discovery(state: ServerState, http: BaseRequest, parts: list[str]) -> web.StreamResponse | None:
    discovery = state.discovery
    body: Any = None
    match parts:
        case ["api" | "apis"]:
            core = parts[0] == "api"
            version = _wanted_aggregate(http.headers.get("Accept", ""))
            if version:
                return await _kept(http, discovery.aggregated(core=core, version=version))
            address = state.server.removeprefix("https://")
            body = discovery.api_versions(address) if core else discovery.group_list()
        case ["api", version]:
            body = discovery.resource_list("", version)
        case ["apis", group]:
            body = discovery.group(group)
        case ["apis", group, version]:
            body = discovery.resource_list(group, version)
        case _:
            pass
    return None if body is None else await rendered(http, 200, msgspec.json.encode(body))


async def _kept(http: BaseRequest, document: Document, *, years: bool = False) -> web.StreamResponse:
    """A document that the client may keep by its ETag, or for a year."""
    headers = {"ETag": document.etag, "Vary": "Accept", "Cache-Control": "public"}
    if years:
        headers["Cache-Control"] = "public, immutable"
        headers["Expires"] = formatdate(time.time() + YEAR_SECONDS, usegmt=True)
    if http.headers.get("If-None-Match") == document.etag:
        return web.Response(status=304, headers=headers)
    return await rendered(http, 200, document.body, content_type=document.content_type, more_headers=headers)


_PROTOBUF_OF_V2 = "com.github.proto-openapi.spec.v2@v1.0+protobuf"
_EMPTY_V2 = b"\x0a\x032.0\x12\x12\x0a\x0aKubernetes\x12\x04v1.x"
"""`swagger: "2.0"` and a title. kubectl asks for this form, and only about kinds that the v3 documents lack (a
`List`, a kind that is not served); what it does not find here it leaves for the server to judge."""


async def _openapi(
    state: ServerState, http: BaseRequest, parts: list[str], query: Query
) -> web.StreamResponse | None:
    openapi = state.openapi
    match parts:
        case ["v2"] if _PROTOBUF_OF_V2 in http.headers.get("Accept", ""):
            # A media type may not hold "@", so the answer is named with a dot.
            named = f"application/{_PROTOBUF_OF_V2.replace('@', '.')}"
            return web.Response(body=_EMPTY_V2, headers={"Content-Type": named})
        case ["v2"]:
            return await rendered(http, 200, openapi.swagger())
        case ["v3"]:
            return await rendered(http, 200, openapi.index())
        case ["v3", *rest]:
            path = "/".join(rest)
            current = openapi.hash_of(path)
            document = openapi.document(path)
            if current is None or document is None:
                return None
            asked = query.get("hash")
            if asked and asked != current:
                return web.Response(status=301, headers={"Location": f"/openapi/v3/{path}?hash={current}"})
            return await _kept(http, document, years=bool(asked))
        case _:
            return None
