"""From a call to what webhooks and policies are told of it, and back.

What the server gives a new object (uid, times, a made-up name) is not there yet for them, as at a real server, and
is put back afterwards; so are the parts of metadata that nobody but the server writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kajitori.laptop.apiserver.admission.chain import body_kind
from kajitori.laptop.apiserver.admission.review import CREATE, DELETE, Review
from kajitori.laptop.apiserver.bodies import fitted

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.laptop.apiserver.admission.review import Named
    from kajitori.laptop.apiserver.admission.steps import Steps
    from kajitori.laptop.apiserver.request import Call

Object = dict[str, Any]
_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}
_NOT_YET = ("uid", "creationTimestamp", "generation", "resourceVersion")
_KEPT = ("name", "namespace", "uid", "creationTimestamp", "generation", "managedFields", "resourceVersion")


def _options(call: Call) -> Object:
    options: Object = {"kind": _OPTIONS.get(call.verb, "DeleteOptions"), "apiVersion": "meta.k8s.io/v1"}
    query = call.query
    if query.all("dryRun"):
        options["dryRun"] = query.all("dryRun")
    for name in ("fieldManager", "fieldValidation"):
        if query.get(name):
            options[name] = query.get(name)
    if "force" in query:
        options["force"] = query.flag("force")
    return options


def review_of(
    call: Call,
    operation: str,
    new: Object | None,
    old: Object | None,
    *,
    kind: Named | None = None,
    options: Object | None = None,
    name: str = "",
    namespace: str = "",
    dry_run: bool | None = None,
) -> Review | None:
    """What is to be admitted; None: nobody has a say in it."""
    target, resource = call.target, call.kind.resource
    if call.configured.chain(resource, target.subresource, operation) is None:
        return None
    metadata: Object = (new or old or {}).get("metadata") or {}
    name = name or target.name
    if not name and not call.generated_name:
        name = metadata.get("name", "")
    namespace = namespace or target.namespace
    if resource.plural == "namespaces" and not resource.group:
        namespace = name
    whole = kind is None or kind == body_kind(call.kind)
    return Review(
        operation,
        resource,
        kind or body_kind(call.kind, target.subresource),
        target.subresource,
        namespace,
        name,
        call.user,
        call.dry_run() if dry_run is None else dry_run,
        new,
        old,
        options if options is not None else _options(call),
        call.warnings,
        (lambda obj: fitted(call.kind, obj)) if whole else (lambda _obj: None),
        call.annotations,
    )


def mutated(call: Call, review: Review, prepare: Callable[[Object], None]) -> Steps[None]:
    """Let the review's object be changed, then prepare it as the server does. What only the server writes stays."""
    chain = call.configured.chain(review.resource, review.subresource, review.operation)
    if chain is None:
        return
    before = review.obj

    def again(obj: Object) -> None:
        if before is not None:
            _keep(obj, before)
        prepare(obj)

    yield from chain.mutate(review, again)


def mutated_new(call: Call, review: Review, prepare: Callable[[Object], None]) -> Steps[None]:
    """The same for a new object, which has neither uid nor time yet, and no name if the server makes one up."""
    chain = call.configured.chain(review.resource, review.subresource, review.operation)
    if chain is None or review.obj is None:
        return
    whole = review.obj
    review.obj = shown = _as_sent(call, whole)

    def again(obj: Object) -> None:
        restored = {**obj, "metadata": dict(obj.get("metadata") or {})}
        _keep(restored, whole)
        prepare(restored)
        obj.clear()
        obj.update(_as_sent(call, restored))

    yield from chain.mutate(review, again)
    if review.obj is shown:
        review.obj = whole
        return
    obj = review.obj
    obj["metadata"] = dict(obj.get("metadata") or {})
    _keep(obj, whole)
    prepare(obj)


def _as_sent(call: Call, obj: Object) -> Object:
    hidden = (*_NOT_YET, "name") if call.generated_name else _NOT_YET
    metadata = {key: value for key, value in obj["metadata"].items() if key not in hidden}
    return {**obj, "metadata": metadata}


def _keep(obj: Object, before: Object) -> None:
    metadata: Object = obj.setdefault("metadata", {})
    for key in _KEPT:
        if key in before["metadata"]:
            metadata[key] = before["metadata"][key]
        else:
            metadata.pop(key, None)


def validated(call: Call, review: Review) -> Steps[None]:
    """Raises StatusError if a policy or webhook refuses."""
    chain = call.configured.chain(review.resource, review.subresource, review.operation)
    if chain is not None:
        yield from chain.validate(review)


def admitted(call: Call, review: Review | None) -> Steps[None]:
    """Both, for what is not stored itself: a deletion, a body of a subresource, a connection."""
    if review is None:
        return
    chain = call.configured.chain(review.resource, review.subresource, review.operation)
    if chain is not None:
        yield from chain.mutate(review, lambda _obj: None)
        yield from chain.validate(review)


def review_of_deletion(call: Call, old: Object, options: Object, *, dry_run: bool) -> Review | None:
    metadata: Object = old["metadata"]
    return review_of(
        call,
        DELETE,
        None,
        old,
        options=options,
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        dry_run=dry_run,
    )


__all__ = [
    "CREATE",
    "admitted",
    "mutated",
    "mutated_new",
    "review_of",
    "review_of_deletion",
    "validated",
]
