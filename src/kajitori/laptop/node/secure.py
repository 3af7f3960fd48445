"""The kubelet API over TLS: which certificate it shows, who may come in, and what they may do.

A client is known by its certificate, signed by the cluster's client authority, or by a token, which the API server
is asked about. What it may do the API server is asked too, as of the resource `nodes` with a subresource that
follows from the path. Answers are kept for a while, as a kubelet keeps them. Nobody comes in without a name.

Source: Kubernetes documentation, "Kubelet authentication/authorization".
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiohttp import web

from kajitori.base.errors import ApiError, Unreachable
from kajitori.kube.client import Client

if TYPE_CHECKING:
    from kajitori.laptop.node.certificates import NodeCertificates

_log = logging.getLogger(__name__)

ALLOWED_SECONDS = 300.0
REFUSED_SECONDS = 30.0
TOKEN_SECONDS = 120.0
_ANSWERS_KEPT = 1_000
_LOOK_SECONDS = 10.0
_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
# By the first part of the path; what is not named is `proxy`. The first that is allowed is enough.
_SUBRESOURCES = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "pods": ("pods", "proxy"),
    "runningPods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
    "configz": ("configz", "proxy"),
}


class Person(NamedTuple):
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


def subresources_of(path: str) -> tuple[str, ...]:
    """What of `nodes` a path of the kubelet API is."""
    return _SUBRESOURCES.get(path.strip("/").split("/")[0], ("proxy",))


def person_of_certificate(certificate: dict[str, Any]) -> Person | None:
    """The person that a verified certificate names, as Python's ssl module shows it."""
    parts = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in parts if key == "commonName"]
    groups = [value for key, value in parts if key == "organizationName"]
    return Person(names[0], (*groups, "system:authenticated")) if names else None


class Doorkeeper:
    """Says whether a request may be answered. name: of the node."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._persons: dict[str, tuple[float, Person | None]] = {}
        self._answers: dict[tuple[Person, str, str], tuple[float, bool]] = {}

    async def check(self, request: web.BaseRequest) -> None:
        """Raises HTTPUnauthorized or HTTPForbidden."""
        person = await self._person(request)
        if person is None:
            raise web.HTTPUnauthorized(text="Unauthorized")
        verb = _VERBS.get(request.method, "")
        subresources = subresources_of(request.path)
        for subresource in subresources:
            if await self._allows(person, verb, subresource):
                return
        raise web.HTTPForbidden(
            text=f"Forbidden (user={person.name}, verb={verb}, resource=nodes, subresource={list(subresources)})"
        )

    async def _person(self, request: web.BaseRequest) -> Person | None:
        connection = request.transport.get_extra_info("ssl_object") if request.transport else None
        certificate = connection.getpeercert() if connection is not None else None
        if certificate:
            return person_of_certificate(certificate)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return await self._person_of_token(token.strip()) if scheme.lower() == "bearer" and token else None

    async def _person_of_token(self, token: str) -> Person | None:
        key = hashlib.sha256(token.encode()).hexdigest()
        kept = self._persons.get(key)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = await self._review("/apis/authentication.k8s.io/v1/tokenreviews", review)
        user: dict[str, Any] = status.get("user") or {}
        person = None
        if status.get("authenticated") and user.get("username"):
            extra = tuple((name, tuple(values)) for name, values in (user.get("extra") or {}).items())
            person = Person(user["username"], tuple(user.get("groups") or ()), user.get("uid", ""), extra)
        if len(self._persons) > _ANSWERS_KEPT:
            self._persons.clear()
        self._persons[key] = (time.monotonic() + TOKEN_SECONDS, person)
        return person

    async def _allows(self, person: Person, verb: str, subresource: str) -> bool:
        key = (person, verb, subresource)
        kept = self._answers.get(key)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        spec: dict[str, Any] = {
            "user": person.name,
            "groups": list(person.groups),
            "resourceAttributes": {
                "verb": verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": subresource,
                "name": self._name,
            },
        }
        if person.uid:
            spec["uid"] = person.uid
        if person.extra:
            spec["extra"] = {name: list(values) for name, values in person.extra}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        status = await self._review("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        allowed = bool(status.get("allowed"))
        if len(self._answers) > _ANSWERS_KEPT:
            self._answers.clear()
        self._answers[key] = (time.monotonic() + (ALLOWED_SECONDS if allowed else REFUSED_SECONDS), allowed)
        return allowed

    async def _review(self, path: str, review: dict[str, Any]) -> dict[str, Any]:
        """The status of a review. Raises HTTPInternalServerError where the API server does not answer."""
        try:
            answer = await self._client.request("POST", path, body=review)
        except (ApiError, Unreachable) as error:
            raise web.HTTPInternalServerError(text=f"the API server cannot be asked: {error}") from None
        return msgspec.json.decode(answer).get("status") or {}


class SecureSite:
    """Serves an application at the node's address and port once there is a certificate, and follows its renewal."""

    def __init__(self, home: Path, address: str, port: int, certificates: NodeCertificates) -> None:
        from kajitori.laptop.node.certificates import client_authority_file, serving_file

        self._serving = serving_file(home)
        self._authority = client_authority_file(home)
        self._address = address
        self._port = port
        self._certificates = certificates

    async def run(self, runner: web.AppRunner) -> None:
        """Until cancelled."""
        await self._certificates.serving_ready.wait()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Who shows no certificate may still have a token.
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        await self._listen(runner, context, self._load(context, 0.0))

    def _load(self, context: ssl.SSLContext, loaded_at: float) -> float:
        """Read the files again if one is newer: connections made from now on see that. Returns its time."""
        newest = max(self._serving.stat().st_mtime, self._authority.stat().st_mtime)
        if newest != loaded_at:
            context.load_cert_chain(self._serving)
            context.load_verify_locations(self._authority)
        return newest

    async def _listen(self, runner: web.AppRunner, context: ssl.SSLContext, loaded_at: float) -> None:
        site = None
        try:
            while True:
                if site is None:
                    site = await self._try_to_listen(runner, context)
                await asyncio.sleep(_LOOK_SECONDS if site is not None else 1.0)
                try:
                    loaded_at = self._load(context, loaded_at)
                except (OSError, ssl.SSLError) as error:
                    _log.error("the kubelet API's certificates cannot be read again: %s", error)
        finally:
            if site is not None:
                await site.stop()

    async def _try_to_listen(self, runner: web.AppRunner, context: ssl.SSLContext) -> web.TCPSite | None:
        site = web.TCPSite(runner, self._address, self._port, ssl_context=context)
        try:
            await site.start()
        except OSError as error:
            _log.error("the kubelet API cannot listen on %s:%d: %s", self._address, self._port, error)
            await site.stop()
            return None
        return site


def only_known(doorkeeper: Doorkeeper) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that lets through what the doorkeeper allows; who reaches the unix socket owns the node."""

    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        secure = request.transport is not None and request.transport.get_extra_info("ssl_object") is not None
        if secure:
            await doorkeeper.check(request)
        return await handler(request)

    return check
