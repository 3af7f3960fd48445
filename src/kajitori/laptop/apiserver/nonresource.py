"""Paths that are no resources: health, version, keys, the audit ring; documents about the kinds (`documents`)."""

from __future__ import annotations

import asyncio
import platform
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.api.schemas import KUBERNETES_VERSION
from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.answers import rendered
from kajitori.laptop.apiserver.documents import answer_document

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.web import BaseRequest

    from kajitori.laptop.apiserver.request import Query
    from kajitori.laptop.apiserver.state import ServerState

_HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
_CHECKS = ("ping", "storage")


def version_info() -> dict[str, str]:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{KUBERNETES_VERSION}+kajitori",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{machine}",
    }


async def _json(http: BaseRequest, body: Any, content_type: str = "") -> web.StreamResponse:
    return await rendered(http, 200, msgspec.json.encode(body), content_type=content_type)


async def answer_path(
    state: ServerState, http: BaseRequest, path: str, query: Query
) -> web.StreamResponse | None:
    """The answer for a path that is no resource; None if there is nothing there."""
    if path.rstrip("/") in _HEALTH or path.split("/")[1] in ("healthz", "livez", "readyz"):
        return await _health(state, http, path, query)
    if http.method not in ("GET", "HEAD"):
        raise status.method_not_allowed()
    match path.rstrip("/"):
        case "/version":
            return await _json(http, version_info())
        case "/.well-known/openid-configuration":
            return await _json(http, state.signer.discovery())
        case "/openid/v1/jwks":
            return await _json(http, state.signer.key_set(), "application/jwk-set+json")
        case "/kajitori/audit":
            return await _audit(state, http, query)
        case _:
            return await answer_document(state, http, path, query)


async def _health(state: ServerState, http: BaseRequest, path: str, query: Query) -> web.StreamResponse:
    stopping = state.stopping.is_set() and path.startswith("/readyz")
    text = "ok"
    if "verbose" in query or stopping:
        name = path.strip("/").partition("/")[0]
        lines = [f"[+]{check} ok" for check in _CHECKS]
        lines.append(f"[{'-' if stopping else '+'}]shutdown {'failed' if stopping else 'ok'}")
        text = "\n".join([*lines, f"{name} check {'failed' if stopping else 'passed'}"]) + "\n"
    return await rendered(
        http,
        500 if stopping else 200,
        text.encode(),
        content_type="text/plain; charset=utf-8",
        raw=True,
    )


async def _audit(state: ServerState, http: BaseRequest, query: Query) -> web.StreamResponse:
    """The accepted mutating requests that match, oldest first; resource with or without its group."""
    records = await asyncio.to_thread(
        state.store.journal.audit, query.get("resource"), query.get("namespace"), query.get("name")
    )
    return await _json(http, {"kind": "AuditList", "apiVersion": "kajitori.dev/v1", "items": records})
