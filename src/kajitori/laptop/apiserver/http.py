"""From bytes to a call and back: authenticate, find the kind, authorise, hand over to a handler, answer.

Runs as the handler of aiohttp's low-level server. Whatever goes wrong becomes a Status; what was not foreseen is
logged and answered with a 500 that says so.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from kajitori.laptop.apiserver import deletes, patching, reads, status, writes
from kajitori.laptop.apiserver.answers import rendered
from kajitori.laptop.apiserver.auth import User, read_impersonation
from kajitori.laptop.apiserver.evictions import evict_pod
from kajitori.laptop.apiserver.negotiation import PROTOBUF, Output, negotiate
from kajitori.laptop.apiserver.nonresource import answer_path
from kajitori.laptop.apiserver.proxy import stream_logs, tunnel
from kajitori.laptop.apiserver.rbac import Attributes
from kajitori.laptop.apiserver.request import Call, Query, Target, parse_path, verb_of
from kajitori.laptop.apiserver.reviews import REVIEWS, answer_review, request_token
from kajitori.laptop.apiserver.selectors import parse_fields
from kajitori.laptop.apiserver.subresources import bind_pod, get_scale, write_scale

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.web import BaseRequest

    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.state import ServerState

log = logging.getLogger(__name__)
Answer = "Callable[[ServerState, Call], Awaitable[web.StreamResponse]]"

# Subresources whose body is the object itself.
_OBJECT_SUBRESOURCES = frozenset({"status", "finalize", "ephemeralcontainers", "resize", "approval"})
CLIENT_CLOSED_REQUEST = 499
DROPPED_BODY_BYTES = 4 << 20
DROPPED_BODY_SECONDS = 1.0
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})

_OBJECTS: dict[str, Callable[[ServerState, Call], Awaitable[web.StreamResponse]]] = {
    "get": reads.get_object,
    "list": reads.list_objects,
    "watch": reads.watch_objects,
    "create": writes.create_object,
    "update": writes.update_object,
    "patch": patching.patch_object,
    "delete": deletes.delete_object,
    "deletecollection": deletes.delete_collection,
}
_SUBRESOURCES: dict[tuple[str, str], Callable[[ServerState, Call], Awaitable[web.StreamResponse]]] = {
    ("scale", "get"): get_scale,
    ("scale", "update"): write_scale,
    ("scale", "patch"): write_scale,
    ("binding", "create"): bind_pod,
    ("eviction", "create"): evict_pod,
    ("token", "create"): request_token,
    ("log", "get"): stream_logs,
    ("exec", "get"): tunnel,
    ("exec", "create"): tunnel,
    ("attach", "get"): tunnel,
    ("attach", "create"): tunnel,
    ("portforward", "get"): tunnel,
    ("portforward", "create"): tunnel,
}


class Handler:
    """One request in, one answer out. peer: who asks where the socket says so, and no token says otherwise."""

    def __init__(self, state: ServerState, peer: User | None = None) -> None:
        self._state = state
        self._peer = peer

    async def __call__(self, http: BaseRequest) -> web.StreamResponse:
        answer = await self._answer_or_refuse(http)
        if not http.content.is_eof() and not answer.prepared:
            await _drop_body(http, answer)
        return answer

    async def _answer_or_refuse(self, http: BaseRequest) -> web.StreamResponse:
        warnings: list[str] = []
        try:
            return await self._answer(http, warnings)
        except status.StatusError as error:
            return await self._refuse(http, error, warnings)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if isinstance(error, ConnectionResetError) and _has_left(http):
                # Nobody reads this; it only tells aiohttp that the request is over.
                return web.Response(status=CLIENT_CLOSED_REQUEST)
            log.exception("%s %s failed", http.method, http.raw_path)
            fault = status.internal_error("this server has a fault; its log says more")
            return await self._refuse(http, fault, warnings)

    async def _refuse(
        self, http: BaseRequest, error: status.StatusError, warnings: list[str]
    ) -> web.StreamResponse:
        # The query may be what was wrong: whether to indent is read without it.
        form = _form_of_refusal(http.headers.get("Accept", ""))
        if form.protobuf:
            from kajitori.laptop.apiserver.protobuf_writing import as_protobuf

            written = as_protobuf(error.status) or b""
            return await rendered(
                http,
                error.code,
                written,
                warnings=warnings,
                content_type=PROTOBUF,
                raw=True,
                more_headers=error.headers,
            )
        body = msgspec.json.encode(error.status)
        return await rendered(
            http, error.code, body, form.yaml, warnings=warnings, more_headers=error.headers
        )

    async def _answer(self, http: BaseRequest, warnings: list[str]) -> web.StreamResponse:
        raw_path, _, raw_query = http.raw_path.partition("?")
        target = parse_path(raw_path)
        if http.method not in _METHODS:
            raise status.method_not_allowed()
        query = Query(raw_query)
        user = self._user(http)
        elsewhere = self._state.api_services.find(target)
        if elsewhere is not None:
            self._authorise(user, self._asked(http, target, query))
            return await self._state.api_services.answer(elsewhere, http, target, query, user)
        if not target.plural:
            return await self._path(http, target, query, user)
        kind = self._state.registry.lookup(target.group, target.version, target.plural)
        if kind is None:
            self._authorise(user, self._attributes(http.method, target, query))
            return await self._unknown(http, target)
        self._check_scope(kind, target, http.method)
        verb = verb_of(http.method, target, query)
        asked = self._attributes(http.method, target, query)
        if not self._state.authorizer.allows(user, asked):
            raise status.forbidden(kind.resource, target.name, asked.sentence(user.name))
        handler = _handler_of(kind, target, verb)
        output = Output() if target.subresource in _STREAMS else _form_of(http, kind, verb)
        call = Call(http, target, query, verb, user, output)
        call.kind = kind
        call.configured = self._state.admission.current
        call.warnings = warnings
        if kind.warning:
            warnings.append(kind.warning)
        return await handler(self._state, call)

    def _user(self, http: BaseRequest) -> User:
        transport = http.transport
        secure: Any = transport.get_extra_info("ssl_object") if transport is not None else None
        certificate: bytes | None = secure.getpeercert(True) if secure is not None else None
        user = self._state.authenticator.authenticate(
            certificate, http.headers.get("Authorization"), self._peer
        )
        if any(name.lower().startswith("impersonate-") for name in http.headers):
            return self._impersonated(http, user)
        return user

    def _impersonated(self, http: BaseRequest, user: User) -> User:
        wanted = read_impersonation(http.headers)
        if wanted is None:
            return user
        asked: list[Attributes] = []
        if wanted.user.startswith("system:serviceaccount:") and wanted.user.count(":") == 3:
            _, _, namespace, name = wanted.user.split(":")
            asked.append(Attributes("impersonate", "", "serviceaccounts", namespace, name))
        else:
            asked.append(Attributes("impersonate", "", "users", "", wanted.user))
        asked += [Attributes("impersonate", "", "groups", "", group) for group in wanted.groups]
        review_group = "authentication.k8s.io"
        if wanted.uid:
            asked.append(Attributes("impersonate", review_group, "uids", "", wanted.uid))
        for key, values in wanted.extra:
            asked += [
                Attributes("impersonate", review_group, f"userextras/{key}", "", value) for value in values
            ]
        for attributes in asked:
            self._authorise(user, attributes, attributes.name)
        return wanted.resulting_user(user)

    def _authorise(self, user: User, asked: Attributes, name: str = "") -> None:
        if self._state.authorizer.allows(user, asked):
            return
        if not asked.resource:
            raise status.forbidden_path(user.name, asked.verb, asked.path)
        qualified = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
        named = f'{qualified} "{name}"' if name else qualified
        details: dict[str, Any] = {"name": name} if name else {}
        if asked.group:
            details["group"] = asked.group
        details["kind"] = asked.resource
        raise status.failure(403, "Forbidden", f"{named} is forbidden: {asked.sentence(user.name)}", details)

    def _asked(self, http: BaseRequest, target: Target, query: Query) -> Attributes:
        """What a request asks for, be it a resource or a path."""
        if target.plural:
            return self._attributes(http.method, target, query)
        return Attributes(http.method.lower().replace("head", "get"), path=target.path)

    def _attributes(self, method: str, target: Target, query: Query) -> Attributes:
        name = target.name
        verb = verb_of(method, target, query)
        on_node = ""
        if not name and verb in ("list", "watch", "deletecollection") and "fieldSelector" in query:
            wanted = {f.path: f.value for f in parse_fields(query.get("fieldSelector")) if f.equal}
            name = wanted.get("metadata.name", "")
            on_node = wanted.get("spec.nodeName", "")
        resource = f"{target.plural}/{target.subresource}" if target.subresource else target.plural
        namespace = target.namespace
        if target.plural == "namespaces" and not target.group:
            namespace = name
        return Attributes(verb, target.group, resource, namespace, name, on_node=on_node)

    @staticmethod
    def _check_scope(kind: Kind, target: Target, method: str) -> None:
        """Namespaced objects have a namespace in their path, the others have none; all of them are only read at once."""
        if method == "HEAD":
            raise status.method_not_allowed()
        if kind.namespaced:
            if not target.namespace and not target.name and method != "GET":
                raise status.method_not_allowed()
            if not target.namespace and target.name:
                raise status.no_such_resource()
        elif target.namespace:
            raise status.no_such_resource()

    async def _path(self, http: BaseRequest, target: Target, query: Query, user: User) -> web.StreamResponse:
        asked = Attributes(http.method.lower().replace("head", "get"), path=target.path)
        self._authorise(user, asked)
        answer = await answer_path(self._state, http, target.path, query)
        return answer if answer is not None else await self._unknown(http, target)

    async def _unknown(self, http: BaseRequest, target: Target) -> web.StreamResponse:
        if _is_of_builtin_group(self._state, target):
            raise status.no_such_resource()
        return await rendered(
            http, 404, b"404 page not found\n", content_type="text/plain; charset=utf-8", raw=True
        )


def _is_of_builtin_group(state: ServerState, target: Target) -> bool:
    """Whether a path that leads nowhere begins with a group that always is there."""
    match target.path.strip("/").split("/"):
        case ["api", _, *_]:
            return True
        case ["apis", group, _, *_]:
            return state.registry.is_builtin_group(group)
        case _:
            return False


async def _drop_body(http: BaseRequest, answer: web.StreamResponse) -> None:
    """Keep a connection whose request was answered before its body was read, or tell the client that it ends.

    A body that is on its way is waited for; without that the connection would be cut under the client's next request.
    """
    dropped_bytes = 0
    try:
        async with asyncio.timeout(DROPPED_BODY_SECONDS):
            while dropped_bytes <= DROPPED_BODY_BYTES and not http.content.is_eof():
                dropped_bytes += len(await http.content.readany())
    except (TimeoutError, ConnectionError, ClientError, HttpProcessingError, web.RequestPayloadError):
        pass
    if not http.content.is_eof():
        answer.force_close()


def _form_of(http: BaseRequest, kind: Kind, verb: str) -> Output:
    many = verb in ("list", "watch", "deletecollection")
    return negotiate(http.headers.get("Accept", ""), custom=kind.custom, many=many)


def _form_of_refusal(accept: str) -> Output:
    try:
        return negotiate(accept)
    except status.StatusError:
        return Output()


def _has_left(http: BaseRequest) -> bool:
    transport = http.transport
    return transport is None or transport.is_closing()


_STREAMS = frozenset({"log", "exec", "attach", "portforward"})


def _handler_of(
    kind: Kind, target: Target, verb: str
) -> Callable[[ServerState, Call], Awaitable[web.StreamResponse]]:
    """Raises StatusError 404 for a subresource that the kind does not have, 405 for a verb."""
    name = target.subresource
    if not name:
        if verb not in kind.verbs and not (verb == "watch" and "list" in kind.verbs):
            raise status.method_not_allowed()
        if kind.resource.qualified_name in REVIEWS:
            return answer_review
        if (verb == "create" and target.name) or (verb in ("update", "patch") and not target.name):
            raise status.method_not_allowed()
        return _OBJECTS[verb]
    subresource = kind.subresources.get(name)
    if subresource is None:
        raise status.not_found(kind.resource, target.name) if kind.custom else status.no_such_resource()
    if name in _OBJECT_SUBRESOURCES:
        return _object_subresource(name, verb)
    handler = _SUBRESOURCES.get((name, verb))
    if handler is None:
        raise status.method_not_allowed()
    return handler


async def _update_status(state: ServerState, call: Call) -> web.StreamResponse:
    return await writes.update_object(state, call, call.target.subresource)


async def _patch_status(state: ServerState, call: Call) -> web.StreamResponse:
    return await patching.patch_object(state, call, call.target.subresource)


def _object_subresource(name: str, verb: str) -> Callable[[ServerState, Call], Awaitable[web.StreamResponse]]:
    if verb == "get" and name != "finalize":
        return reads.get_object
    if verb == "update":
        return _update_status
    if verb == "patch" and name != "finalize":
        return _patch_status
    raise status.method_not_allowed()
