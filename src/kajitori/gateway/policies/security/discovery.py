"""Asks OpenID providers for the endpoints that policies leave out. The one effect of SecurityPolicies.

What a provider said holds until it says something else; a provider that cannot be asked is asked again with growing
delays.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from kajitori.base.foreign_json import read_foreign_json
from kajitori.gateway.policies.security.issuer import Issuer

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.control.runtime import Runtime

# A plan waits so long for the first answers: a gateway that starts must not close routes that were open.
_PATIENCE_SECONDS = 2.0
_TIMEOUT_SECONDS = 10.0
_AGAIN_SECONDS = 3600.0
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 1.0, 60.0
_LARGEST_ANSWER_BYTES = 256 * 1024
_REQUIRED = ("authorization_endpoint", "token_endpoint")
_OPTIONAL = ("end_session_endpoint",)


def discovery_url(issuer: str) -> str:
    """Where a provider describes itself."""
    return issuer.rstrip("/") + "/.well-known/openid-configuration"


def read_discovery(issuer: str, body: bytes) -> Issuer:
    """What the document of a provider says; its problem if it cannot be used."""
    try:
        document: Any = read_foreign_json(body)
    except ValueError:
        return Issuer(problem=f"{discovery_url(issuer)} is not JSON")
    if not isinstance(document, dict):
        return Issuer(problem=f"{discovery_url(issuer)} is not a JSON object")
    members: dict[str, Any] = document
    if str(members.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
        return Issuer(problem=f"{discovery_url(issuer)} is of another issuer, {members.get('issuer')!r}")
    found: dict[str, str] = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        value = members.get(name)
        if value is None and name in _OPTIONAL:
            continue
        if not isinstance(value, str) or not _is_address(value):
            return Issuer(problem=f"{discovery_url(issuer)}: {name} is no http or https URI")
        found[name] = value
    return Issuer(**found)


def _is_address(text: str) -> bool:
    try:
        return urlsplit(text).scheme in ("https", "http")
    except ValueError:
        return False


class _Asked:
    def __init__(self) -> None:
        self.known = Issuer(problem="the provider is being asked for its endpoints")
        self.tried = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class IssuerSource:
    """Keeps what the wanted issuers say. on_change: called when one of them says something else."""

    def __init__(self, runtime: Runtime, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._asked: dict[str, _Asked] = {}
        runtime.service("OpenID providers", self._end_with_the_process, everywhere=True)

    async def want(self, issuers: set[str]) -> None:
        """Ask exactly these; returns when new ones have been tried once, or after two seconds."""
        for issuer in self._asked.keys() - issuers:
            _stop(self._asked.pop(issuer))
        fresh = [self._ask(issuer) for issuer in sorted(issuers - self._asked.keys())]
        if fresh:
            waiting = [asyncio.ensure_future(asked.tried.wait()) for asked in fresh]
            _, late = await asyncio.wait(waiting, timeout=_PATIENCE_SECONDS)
            for task in late:
                task.cancel()

    def known(self) -> dict[str, Issuer]:
        """By issuer."""
        return {issuer: asked.known for issuer, asked in self._asked.items()}

    def _ask(self, issuer: str) -> _Asked:
        asked = self._asked[issuer] = _Asked()
        asked.task = asyncio.create_task(self._keep(issuer, asked), name=f"endpoints of {issuer}")
        return asked

    async def _keep(self, issuer: str, asked: _Asked) -> None:
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            found = await fetch_issuer(issuer)
            if not found.problem or not asked.known.token_endpoint:
                changed, asked.known = found != asked.known, found
                first = not asked.tried.is_set()
                asked.tried.set()
                if changed and not first:
                    self._on_change()
            if found.problem:
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(retry_seconds * 2, _LAST_RETRY_SECONDS)
            else:
                retry_seconds = _FIRST_RETRY_SECONDS
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _end_with_the_process(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tasks = [asked.task for asked in self._asked.values() if asked.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _stop(asked: _Asked) -> None:
    if asked.task is not None:
        asked.task.cancel()


async def fetch_issuer(issuer: str) -> Issuer:
    """Asks once."""
    url = discovery_url(issuer)
    if urlsplit(issuer).scheme not in ("https", "http"):
        return Issuer(problem=f"{issuer!r} is no http or https URI")
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                return Issuer(problem=f"{url} answers {response.status}")
            body = b""
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _LARGEST_ANSWER_BYTES:
                    return Issuer(problem=f"{url} answers with more than {_LARGEST_ANSWER_BYTES} bytes")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return Issuer(problem=f"{url} cannot be asked: {error or type(error).__name__}")
    return read_discovery(issuer, body)
