"""Admission webhooks: configurations made ready to be asked, and what they are asked and answer.

Mutating ones run one after the other, each on what the one before left; those that want it are asked once more if
somebody after them changed the object. Validating ones run together, and the first refusal in their order counts.
Source: API reference of admissionregistration.k8s.io/v1 and behaviour of kube-apiserver 1.36.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from kajitori.base.cel import EvaluationError
from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.admission.client import CallFailed
from kajitori.laptop.apiserver.admission.expressions import (
    WEBHOOK_VARIABLES,
    Condition,
    compile_conditions,
    conditions_hold,
)
from kajitori.laptop.apiserver.admission.matching import Rules, Selectors
from kajitori.laptop.apiserver.admission.review import Named, Review, request_of
from kajitori.laptop.apiserver.patches import apply_json_patch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from kajitori.api.resource import Resource
    from kajitori.laptop.apiserver.admission.client import WebhookClient
    from kajitori.laptop.apiserver.admission.steps import Steps

Object = dict[str, Any]
log = logging.getLogger(__name__)
DEFAULT_SECONDS = 10.0
REVIEW_KIND = "AdmissionReview"


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of a configuration."""

    configuration: str
    name: str
    declared: Object
    mutating: bool
    rules: Rules
    selectors: Selectors
    conditions: list[Condition]
    timeout_seconds: float

    @property
    def fails_open(self) -> bool:
        return self.declared.get("failurePolicy") == "Ignore"

    @property
    def is_asked_again(self) -> bool:
        return self.declared.get("reinvocationPolicy") == "IfNeeded"

    @property
    def takes_dry_runs(self) -> bool:
        return self.declared.get("sideEffects") in ("None", "NoneOnDryRun")


def hooks_of(configuration: Object, *, mutating: bool) -> list[Hook]:
    return [
        Hook(
            configuration["metadata"]["name"],
            declared["name"],
            declared,
            mutating,
            Rules(declared.get("rules") or (), equivalent=declared.get("matchPolicy") != "Exact"),
            Selectors.of(declared),
            compile_conditions(declared.get("matchConditions"), WEBHOOK_VARIABLES),
            float(declared.get("timeoutSeconds") or DEFAULT_SECONDS),
        )
        for declared in configuration.get("webhooks") or ()
    ]


@dataclass(frozen=True, slots=True)
class Invocation:
    """A webhook that may be for a request, with the resource and kind in which it wants to see it."""

    hook: Hook
    resource: Resource
    kind: Named


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What webhooks need of the server.

    convert(obj, kind): the object as another version shows it. values: variables of match conditions.
    """

    client: WebhookClient
    namespace_labels: Callable[[Review], dict[str, str]]
    convert: Callable[[Object | None, Named], Awaitable[Object | None]]
    values: Callable[[Review], Object]


class _Refused(Exception):
    """The webhook answered that the request is not allowed."""

    def __init__(self, error: status.StatusError) -> None:
        super().__init__(str(error))
        self.error = error


def denied(hook: Hook, result: Object | None) -> status.StatusError:
    """A webhook's refusal with its name in front."""
    result = dict(result or {})
    code = result.get("code") or 0
    code = code if isinstance(code, int) and code >= 400 else 400
    by = f'admission webhook "{hook.name}" denied the request'
    if result.get("message"):
        message = f"{by}: {result['message']}"
    elif result.get("reason"):
        message = f"{by}: {result['reason']}"
    else:
        message = f"{by} without explanation"
    error = status.failure(code, str(result.get("reason") or ""), message, result.get("details"))
    if not result.get("reason"):
        error.status.pop("reason", None)
    return error


def _no_dry_run(hook: Hook) -> status.StatusError:
    return status.bad_request(f'admission webhook "{hook.name}" does not support dry run')


def is_wanted(invocation: Invocation, review: Review, around: Surroundings) -> bool:
    """Selectors and match conditions. Raises StatusError where these fail and the policy is to fail."""
    hook = invocation.hook
    if not hook.selectors.choose(review, around.namespace_labels):
        return False
    if not hook.conditions:
        return True
    try:
        return conditions_hold(hook.conditions, around.values(review))
    except EvaluationError as error:
        if hook.fails_open:
            return False
        raise review.forbidden(error.message) from None


@dataclass(slots=True)
class Rounds:
    """Whom to ask once more. invoked: those that want it and were asked since the object last changed."""

    invoked: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)

    def changed(self) -> None:
        """The object is not what they saw."""
        self.again |= self.invoked
        self.invoked.clear()


def mutate(
    invocations: Sequence[Invocation], review: Review, around: Surroundings, *, round_: int, rounds: Rounds
) -> Steps[None]:
    """Ask mutating webhooks in turn; the review's object becomes what they make of it.

    round_: 1 when they are asked again, then only those whose answer may be out of date.
    """
    for index, invocation in enumerate(invocations):
        hook = invocation.hook
        identity = f"{hook.configuration}/{index}/{hook.name}"
        if round_ and identity not in rounds.again:
            continue
        if not is_wanted(invocation, review, around):
            continue
        before = review.obj
        try:
            yield partial(_mutate_one, invocation, review, around)
        except CallFailed as failure:
            place = f"failed-open.mutation.webhook.admission.k8s.io/round_{round_}_index_{index}"
            _fail(hook, failure, review, place)
        except _Refused as refusal:
            raise refusal.error from None
        changed = review.obj != before
        noted = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
        place = f"mutation.webhook.admission.k8s.io/round_{round_}_index_{index}"
        review.annotations[place] = msgspec.json.encode(noted).decode()
        if changed:
            rounds.changed()
        if hook.is_asked_again:
            rounds.invoked.add(identity)


async def _mutate_one(invocation: Invocation, review: Review, around: Surroundings) -> None:
    hook = invocation.hook
    shown = await around.convert(review.obj, invocation.kind)
    response = await _ask(invocation, review, around, shown)
    patch = _patch_of(response)
    if not patch:
        return
    if review.obj is None or shown is None:
        raise status.internal_error(
            f'admission webhook "{hook.name}" attempted to modify the object, '
            "which is not supported for this operation"
        )
    try:
        changed = apply_json_patch(shown, patch)
    except status.StatusError as error:
        raise status.internal_error(str(error)) from None
    changed = await around.convert(changed, review.kind)
    assert changed is not None
    # What was shown may share parts with what is stored.
    changed = msgspec.json.decode(msgspec.json.encode(changed))
    review.fit(changed)
    review.obj = changed


def _patch_of(response: Object) -> list[Any]:
    """The JSON patch of an answer. Raises CallFailed for what is none."""
    raw, kind = response.get("patch"), response.get("patchType")
    if not raw and kind is None:
        return []
    if kind is None:
        raise CallFailed(
            "received invalid webhook response: webhook returned response.patch but not response.patchType"
        )
    if not raw:
        raise CallFailed(
            "received invalid webhook response: webhook returned response.patchType but not response.patch"
        )
    if kind != "JSONPatch":
        raise CallFailed(f'unsupported patch type "{kind}"')
    try:
        patch = msgspec.json.decode(base64.b64decode(raw, validate=True))
    except (binascii.Error, msgspec.DecodeError, TypeError, ValueError) as error:
        raise CallFailed(f"received undecodable patch in webhook response: {error}") from None
    if not isinstance(patch, list):
        raise CallFailed("received undecodable patch in webhook response: it is not a list of operations")
    return patch


async def validate(invocations: Iterable[Invocation], review: Review, around: Surroundings) -> None:
    """Ask validating webhooks together. Raises the first refusal in their order."""
    outcomes = await asyncio.gather(
        *(_validate_one(invocation, review, around) for invocation in invocations), return_exceptions=True
    )
    refusals: list[BaseException] = []
    for index, (invocation, outcome) in enumerate(zip(invocations, outcomes, strict=True)):
        if isinstance(outcome, CallFailed):
            place = f"failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}"
            try:
                _fail(invocation.hook, outcome, review, place)
            except status.StatusError as error:
                refusals.append(error)
        elif isinstance(outcome, _Refused):
            refusals.append(outcome.error)
        elif outcome is not None:
            refusals.append(outcome)
    if refusals:
        raise refusals[0]


async def _validate_one(invocation: Invocation, review: Review, around: Surroundings) -> None:
    shown = await around.convert(review.obj, invocation.kind)
    response = await _ask(invocation, review, around, shown)
    if response.get("patch"):
        raise CallFailed(
            "received invalid webhook response: validating webhook may not return response.patch"
        )
    if response.get("patchType") is not None:
        raise CallFailed(
            "received invalid webhook response: validating webhook may not return response.patchType"
        )


def _fail(hook: Hook, failure: CallFailed, review: Review, annotation: str) -> None:
    """Let a request pass whose webhook cannot be asked, or refuse it, as the webhook's policy says."""
    message = f'failed calling webhook "{hook.name}": {failure}'
    if not hook.fails_open:
        raise status.internal_error(message) from None
    log.warning("%s, failing open", message)
    review.annotations[annotation] = hook.name


async def _ask(invocation: Invocation, review: Review, around: Surroundings, shown: Object | None) -> Object:
    """The checked `response` of a webhook that allows the request. Raises CallFailed, _Refused, StatusError."""
    hook = invocation.hook
    if review.dry_run and not hook.takes_dry_runs:
        raise _no_dry_run(hook)
    versions = hook.declared.get("admissionReviewVersions") or ()
    version = next((version for version in versions if version in ("v1", "v1beta1")), None)
    if version is None:
        raise CallFailed(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)"
        )
    uid = str(uuid.uuid4())
    request = request_of(review, invocation.resource, invocation.kind, uid)
    request["object"] = shown
    request["oldObject"] = await around.convert(review.old, invocation.kind)
    api_version = f"admission.k8s.io/{version}"
    body = {"kind": REVIEW_KIND, "apiVersion": api_version, "request": request}
    try:
        answer = await around.client.post(hook.declared.get("clientConfig") or {}, body, hook.timeout_seconds)
    except CallFailed as failure:
        raise CallFailed(f"failed to call webhook: {failure}") from None
    response = _checked(answer, uid, version)
    for key, value in (response.get("auditAnnotations") or {}).items():
        review.annotations[f"{hook.name}/{key}"] = str(value)
    review.warnings.extend(str(text) for text in response.get("warnings") or ())
    if response.get("allowed") is not True:
        raise _Refused(denied(hook, response.get("status")))
    return response


def _checked(answer: Any, uid: str, version: str) -> Object:
    def invalid(text: str) -> CallFailed:
        return CallFailed(f"received invalid webhook response: {text}")

    if not isinstance(answer, dict):
        raise CallFailed("failed to call webhook: couldn't get version/kind; json parse error: not an object")
    api_version, kind = str(answer.get("apiVersion", "")), str(answer.get("kind", ""))
    if kind not in ("", REVIEW_KIND) or (api_version and not api_version.startswith("admission.k8s.io/")):
        raise CallFailed(
            f'failed to call webhook: no kind "{kind}" is registered for version "{api_version}"'
        )
    response = answer.get("response")
    if not isinstance(response, dict):
        raise invalid("webhook response was absent")
    if version == "v1":
        if response.get("uid") != uid:
            raise invalid(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
        if api_version != "admission.k8s.io/v1":
            raise invalid(
                f"expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api_version}, Kind={kind}"
            )
    elif response.get("patch") and response.get("patchType") is None:
        response["patchType"] = "JSONPatch"
    for key, kind_of, empty in (("auditAnnotations", dict, {}), ("warnings", list, []), ("status", dict, {})):
        if response.get(key) is not None and not isinstance(response[key], kind_of):
            raise invalid(f"response.{key} cannot be read")
        response[key] = response.get(key) or empty
    return response
