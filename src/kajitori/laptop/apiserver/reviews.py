"""Questions that are answered and not stored: may I, may they, who am I, whose token is this, give me a token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kajitori.base.clock import rfc3339
from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.requests import admitted, review_of
from kajitori.laptop.apiserver.admission.review import CREATE
from kajitori.laptop.apiserver.admission.steps import in_time
from kajitori.laptop.apiserver.answers import object_answer
from kajitori.laptop.apiserver.auth import User
from kajitori.laptop.apiserver.bodies import read_object_body, read_subresource_body
from kajitori.laptop.apiserver.node_rights import node_of
from kajitori.laptop.apiserver.rbac import Attributes
from kajitori.laptop.apiserver.status import FieldError
from kajitori.laptop.apiserver.tokens import DEFAULT_AUDIENCE, Bound, Reference

if TYPE_CHECKING:
    from aiohttp import web

    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState

Object = dict[str, Any]
DEFAULT_TOKEN_SECONDS = 3_600
SHORTEST_TOKEN_SECONDS = 600
LONGEST_TOKEN_SECONDS = 1 << 32

REVIEWS = frozenset(
    {
        "selfsubjectaccessreviews.authorization.k8s.io",
        "subjectaccessreviews.authorization.k8s.io",
        "localsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
        "selfsubjectreviews.authentication.k8s.io",
        "tokenreviews.authentication.k8s.io",
    }
)


def _attributes(spec: Object, errors: list[FieldError]) -> Attributes:
    """What a review asks for; what is wrong with it is added to `errors`."""
    resource: Object | None = spec.get("resourceAttributes")
    path: Object | None = spec.get("nonResourceAttributes")
    if resource is not None and path is not None:
        shown = {"Path": path.get("path", ""), "Verb": path.get("verb", "")}
        words = "cannot be specified in combination with resourceAttributes"
        errors.append(status.invalid_value("spec.nonResourceAttributes", shown, words))
    if resource is None and path is None:
        words = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        errors.append(status.invalid_value("spec.resourceAttributes", None, words))
    if resource is None:
        path = path or {}
        return Attributes(path.get("verb", ""), path=path.get("path", ""))
    plural = resource.get("resource", "")
    if resource.get("subresource"):
        plural += "/" + resource["subresource"]
    return Attributes(
        resource.get("verb", ""),
        resource.get("group", ""),
        plural or "*",
        resource.get("namespace", ""),
        resource.get("name", ""),
    )


async def answer_review(state: ServerState, call: Call) -> web.StreamResponse:
    """POST of any review: the same object with its status."""
    review = await read_object_body(call)
    review.setdefault("metadata", {}).pop("managedFields", None)
    spec = review.get("spec") or {}
    plural = call.kind.resource.plural
    match plural:
        case "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews":
            errors: list[FieldError] = []
            asked = _attributes(spec, errors)
            user = call.user if plural.startswith("self") else _user_of(spec, errors)
            if plural.startswith("local"):
                _check_namespace(call, review, asked, errors)
            if errors:
                raise _refused(errors)
            review["status"] = _access(state, user, asked)
        case "selfsubjectrulesreviews":
            review["status"] = _rules(state, call.user, spec.get("namespace", ""))
        case "selfsubjectreviews":
            review["status"] = {"userInfo": call.user.info()}
        case _:
            review["status"] = _token(state, spec)
    return await object_answer(call, 201, review)


def _user_of(spec: Object, errors: list[FieldError]) -> User:
    user, groups = spec.get("user", ""), spec.get("groups") or ()
    if not user and not groups:
        words = "at least one of user or group must be specified"
        errors.append(status.invalid_value("spec.user", "", words))
    return User(user, tuple(groups), spec.get("uid", ""))


def _check_namespace(call: Call, review: Object, asked: Attributes, errors: list[FieldError]) -> None:
    review["metadata"]["namespace"] = call.target.namespace
    if asked.resource and asked.namespace != call.target.namespace:
        field = "spec.resourceAttributes.namespace"
        errors.append(status.invalid_value(field, asked.namespace, "must match metadata.namespace"))


def _refused(errors: list[FieldError]) -> status.StatusError:
    """The server names no kind here."""
    refusal = status.invalid("", "authorization.k8s.io", "", errors)
    refusal.status["details"].pop("kind", None)
    return refusal


def _access(state: ServerState, user: User, asked: Attributes) -> Object:
    # No reason: `kubectl auth can-i` prints it behind the word that scripts compare with.
    return {"allowed": state.authorizer.allows(user, asked)}


def _rules(state: ServerState, user: User, namespace: str) -> Object:
    if not namespace:
        raise status.bad_request("no namespace on request")
    rules = state.authorizer.rules(user, namespace)
    return {
        "resourceRules": [rule.as_policy() for rule in rules if rule.resources],
        "nonResourceRules": [rule.as_policy() for rule in rules if rule.paths],
        "incomplete": bool(node_of(user)),
    }


def _token(state: ServerState, spec: Object) -> Object:
    token = spec.get("token", "")
    if not token:
        raise status.bad_request("token is required for TokenReview in authentication")
    audiences: list[str] = spec.get("audiences") or [DEFAULT_AUDIENCE]
    known = [(user, one) for one in audiences if (user := state.authenticator.user_of_token(token, one))]
    if known:
        return {
            "authenticated": True,
            "user": known[0][0].info(),
            "audiences": [audience for _, audience in known],
        }
    claims = state.signer.verify(token)
    error = "invalid bearer token"
    if claims is not None and not set(claims.aud) & set(audiences):
        given, wanted = (" ".join(f'"{one}"' for one in many) for many in (claims.aud, audiences))
        error = f"[{error}, token audiences [{given}] is invalid for the target audiences [{wanted}]]"
    return {"user": {}, "error": error}


async def request_token(state: ServerState, call: Call) -> web.StreamResponse:
    """POST of a TokenRequest to a service account."""
    namespace, name = call.target.namespace, call.target.name
    request = await read_subresource_body(call, call.kind.subresources["token"])
    account = state.store.get("serviceaccounts", namespace, name)
    if account is None:
        raise status.not_found(call.kind.resource, name)
    await in_time(admitted(call, review_of(call, CREATE, request, None)))
    spec: Object = request.setdefault("spec", {})
    seconds = spec.get("expirationSeconds")
    if seconds is None:
        seconds = DEFAULT_TOKEN_SECONDS
    if not SHORTEST_TOKEN_SECONDS <= seconds <= LONGEST_TOKEN_SECONDS:
        text = (
            "may not specify a duration less than 10 minutes"
            if seconds < SHORTEST_TOKEN_SECONDS
            else "may not specify a duration larger than 2^32 seconds"
        )
        raise status.invalid(
            "TokenRequest",
            "authentication.k8s.io",
            "",
            [status.invalid_value("spec.expirationSeconds", seconds, text)],
        )
    bound = _binding(state, call, spec.get("boundObjectRef"), Reference(name, account.uid))
    audiences = spec.get("audiences") or [DEFAULT_AUDIENCE]
    token, end = state.signer.sign(bound, audiences, seconds)
    spec["audiences"] = audiences
    spec["expirationSeconds"] = seconds
    spec.setdefault("boundObjectRef", None)
    request["metadata"] = {"name": name, "namespace": namespace, "creationTimestamp": rfc3339(time.time())}
    request["status"] = {"token": token, "expirationTimestamp": rfc3339(end)}
    return await object_answer(call, 201, request)


def _binding(state: ServerState, call: Call, reference: Object | None, account: Reference) -> Bound:
    """What the token is bound to. A node gets tokens only for pods of its own. Raises StatusError."""
    namespace = call.target.namespace
    node = node_of(call.user)
    if reference is None:
        if node:
            raise status.forbidden(
                call.kind.resource, account.name, f"node {node!r} may ask tokens only for a pod bound to it"
            )
        return Bound(namespace, account)
    kind, name = reference.get("kind"), reference.get("name", "")
    plural = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(str(kind))
    if plural is None:
        version = reference.get("apiVersion") or ""
        shown = version if "/" in version else f"/{version}"
        raise status.bad_request(f"cannot bind token to object of type {shown}, Kind={kind}")
    entry = state.store.get(plural, "" if plural == "nodes" else namespace, name)
    if entry is None or (reference.get("uid") and reference["uid"] != entry.uid):
        raise status.failure(404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural})
    bound = Reference(name, entry.uid)
    if plural == "secrets":
        return Bound(namespace, account, secret=bound)
    if plural == "nodes":
        return Bound(namespace, account, node=bound)
    spec = entry.peek()["spec"]
    if spec.get("serviceAccountName", "default") != account.name:
        raise status.bad_request("cannot bind token to a pod that runs under another service account")
    on_node = spec.get("nodeName", "")
    if node and on_node != node:
        raise status.forbidden(
            call.kind.resource, account.name, f"pod {name!r} does not run on node {node!r}"
        )
    host = state.store.get("nodes", "", on_node) if on_node else None
    return Bound(namespace, account, pod=bound, node=Reference(on_node, host.uid) if host else None)
