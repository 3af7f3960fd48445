"""AIGatewayRoutes to routes of Envoy: by model, over backends with priorities and weights.

Attempts go from one backend to the next, those of a priority before those of the next one: see
`kajitori.gateway.resilience`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.api.aigateway.v1beta1 import (
    MODEL_HEADER,
    AIGatewayRoute,
    AIGatewayRouteBackendRef,
    AIGatewayRouteRule,
    AIGatewayRouteRuleMatch,
    AIServiceBackend,
    HeaderMutation,
)
from kajitori.base.reason import Reason
from kajitori.gateway.backends.clusters import Preparation, ai_cluster, cluster_name
from kajitori.gateway.backends.targets import Target, find_backend, find_service
from kajitori.gateway.credentials.filters import capture_config
from kajitori.gateway.credentials.injection import Injection, find_credential
from kajitori.gateway.internal_headers import problem_of_changing
from kajitori.gateway.observed import age_key
from kajitori.gateway.operations import SERVED_SCHEMAS
from kajitori.gateway.resilience.actions import decision_headers, told_of_rule
from kajitori.gateway.resilience.order import (
    Choice,
    attempt_count,
    hedge_of,
    is_remembered,
    order_metadata,
    priority_groups,
    tiers_of,
)
from kajitori.gateway.resilience.retries import default_retries, silence_seconds
from kajitori.gateway.resilience.settings import DEFAULTS, Resilience
from kajitori.gateway.resources import TYPE
from kajitori.gateway.routes.answers import Model, ai_error, literal, named_for_answers, unix_seconds
from kajitori.gateway.routes.fitting import fit_headers, fitting_sets, nothing_fits
from kajitori.gateway.routes.matches import why_refused
from kajitori.gateway.routes.tables import LUA_FILTER, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kajitori.gateway.observed import Index
    from kajitori.gateway.world import World

_GROUP = "aigateway.envoyproxy.io"


class _Choice(msgspec.Struct):
    """A backend that can be chosen, with all that preparing for it needs."""

    ref: AIGatewayRouteBackendRef
    name: str
    target: Target
    preparation: Preparation
    injection: Injection | None


class _Rule(NamedTuple):
    """A rule and where it stands. resilience: what holds for it."""

    route: AIGatewayRoute
    rule: AIGatewayRouteRule
    number: int
    resilience: Resilience

    @property
    def key(self) -> str:
        return f"{self.route.metadata.namespace}/{self.route.metadata.name}"

    @property
    def where(self) -> str:
        return f"rules[{self.number}]"


def translate_ai_route(
    index: Index,
    world: World,
    route: AIGatewayRoute,
    problems: list[str],
    notes: list[str],
    resilience: Callable[[str], Resilience] = lambda rule: DEFAULTS,
) -> list[Entry]:
    """The routes of Envoy for one AIGatewayRoute; clusters and secrets go to `world`.

    problems: gets what does not work. notes: gets what is honoured less than fully, and the order of backends.
    resilience: what holds for a rule, by its name.
    """
    entries: list[Entry] = []
    for number, rule in enumerate(route.spec.rules):
        place = _Rule(route, rule, number, resilience(rule.name or ""))
        entries += _translate_rule(index, world, place, problems, notes)
    return entries


def _translate_rule(
    index: Index, world: World, place: _Rule, problems: list[str], notes: list[str]
) -> list[Entry]:
    choices, missing = _choices(index, place, notes)
    if choices:
        # Who is missing takes nobody with it: the rule serves with the others.
        lacking = [f"{place.where} serves without one of its backends: {text}" for text in missing]
        notes += [text for text in lacking if text not in notes]
    else:
        problems += [text for text in missing if text not in problems]
    choices = _fallbacks_last(choices)
    tiers = tiers_of(Choice("", c.name, c.preparation.model, c.ref.weight, c.ref.priority) for c in choices)
    told = told_of_rule(place.rule, place.number, tiers, place.resilience)
    notes += [note for note in told if note not in notes]
    actions = _actions(world, place.rule, place.key, choices, missing, place.resilience)
    if len(choices) > 1:
        notes += _lost(world, choices)
    entries: list[Entry] = []
    for number, match in enumerate(place.rule.matches or [AIGatewayRouteRuleMatch()]):
        if why := why_refused(header.value for header in match.headers if header.type != "Exact"):
            problems.append(f"{place.where}.matches[{number}] is left out: {why}")
        else:
            entries += _entries(place, match, number, actions)
    return entries


def _choices(index: Index, place: _Rule, notes: list[str]) -> tuple[list[_Choice], list[str]]:
    """The backends of a rule that can be chosen, and why others cannot."""
    choices: list[_Choice] = []
    missing: list[str] = []
    for ref in place.rule.backend_refs:
        if ref.weight == 0:
            continue
        choice = _choose(index, place.route, ref, notes)
        if isinstance(choice, Reason):
            missing.append(str(choice.message))
        else:
            choices.append(choice)
    return choices, missing


def _entries(
    place: _Rule,
    match: AIGatewayRouteRuleMatch,
    number: int,
    actions: Sequence[tuple[frozenset[str], dict[str, Any]]],
) -> list[Entry]:
    """The routes of Envoy for one match of a rule: one for each set of schemas that its backends speak."""
    route, rule = place.route, place.rule
    headers = [_header_match(header.name, header.type, header.value) for header in match.headers]
    if not any(header.name.lower() == MODEL_HEADER for header in match.headers):
        headers.append({"name": MODEL_HEADER, "present_match": True})
    by_model_alone = len(headers) == 1
    name = f"ai/{place.key}/rule/{place.number}/match/{number}"
    answers = named_for_answers("AIGatewayRoute", place.key)["filter_metadata"]
    entries: list[Entry] = []
    for at, (fit, found) in enumerate(actions):
        action = {key: value for key, value in found.items() if key != "tiers"}
        made = {
            "name": name + (f".{at}" if at else ""),
            "match": {"prefix": "/", "headers": [*headers, *fit_headers(fit)]},
            **action,
            "metadata": {"filter_metadata": {**action.get("metadata", {}), **answers}},
        }
        entries.append(
            Entry(
                (-len(match.headers), *age_key(route), place.number, number, at),
                made,
                ai=True,
                models=() if at else _models(route, rule, match),
                rule=rule.name or "",
                tiers=tuple(found.get("tiers", ())),
                ending=place.resilience.stream_ending,
                hedge=hedge_of(found.get("tiers", ()), place.resilience),
                silence_seconds=silence_seconds(
                    rule, place.resilience, attempt_count(found.get("tiers", ()))
                ),
                serves=fit if by_model_alone else frozenset(),
            )
        )
    return entries


def _fallbacks_last(choices: list[_Choice]) -> list[_Choice]:
    """Where the rule gives no priorities, Backends that are marked as fallback come after the others."""
    if any(choice.ref.priority for choice in choices):
        return choices
    return [
        msgspec.structs.replace(choice, ref=msgspec.structs.replace(choice.ref, priority=1))
        if choice.target.fallback
        else choice
        for choice in choices
    ]


def _lost(world: World, choices: list[_Choice]) -> list[str]:
    """Sentences about backends that are passed over for now."""
    names = dict.fromkeys(choice.name for choice in choices if world.is_lost(choice.target))
    return [
        f"AIServiceBackend {name} has no ready endpoint, and is left out until it has one" for name in names
    ]


def _actions(
    world: World,
    rule: AIGatewayRouteRule,
    key: str,
    choices: list[_Choice],
    missing: list[str],
    resilience: Resilience,
) -> list[tuple[frozenset[str], dict[str, Any]]]:
    """What is done with requests that the given schemas serve, and last with those that fit no backend."""
    if not choices:
        return [(frozenset(), _no_backend(key, missing))]
    schemas = {choice.name: choice.preparation.schema.name for choice in choices}
    actions: list[tuple[frozenset[str], dict[str, Any]]] = []
    for fit in fitting_sets(schemas.values()):
        fitting = [choice for choice in choices if choice.preparation.schema.name in fit]
        actions.append((fit, _route_action(world, rule, fitting, resilience)))
    return [*actions, (frozenset(), nothing_fits(key, schemas))]


def _models(
    route: AIGatewayRoute, rule: AIGatewayRouteRule, match: AIGatewayRouteRuleMatch
) -> tuple[Model, ...]:
    created = unix_seconds(rule.models_created_at or route.metadata.creation_timestamp)
    return tuple(
        Model(header.value, rule.models_owned_by, created)
        for header in match.headers
        if header.name.lower() == MODEL_HEADER and header.type == "Exact"
    )


def _header_match(name: str, kind: str, value: str) -> dict[str, Any]:
    string = {"exact": value} if kind == "Exact" else {"safe_regex": {"regex": value}}
    return {"name": name.lower(), "string_match": string}


def _choose(
    index: Index, route: AIGatewayRoute, ref: AIGatewayRouteBackendRef, notes: list[str]
) -> _Choice | Reason:
    namespace = ref.namespace or route.metadata.namespace or ""
    subject = f"AIServiceBackend {namespace}/{ref.name}"
    if ref.kind == "InferencePool":
        return Reason("InvalidKind", f"InferencePool {namespace}/{ref.name}: pools are not served yet")
    key = (namespace, ref.name)
    if not index.granted(
        _GROUP, "AIGatewayRoute", route.metadata.namespace or "", _GROUP, "AIServiceBackend", key
    ):
        return Reason("RefNotPermitted", f"no ReferenceGrant lets the route refer to {subject}")
    backend = index.ai_backends.get(key)
    if backend is None:
        return Reason("BackendNotFound", f"{subject} does not exist")
    return prepare(index, backend, ref, notes)


def prepare(
    index: Index, backend: AIServiceBackend, ref: AIGatewayRouteBackendRef, notes: list[str]
) -> _Choice | Reason:
    """What a rule needs to send requests to an AIServiceBackend, or why that cannot be."""
    namespace, name = backend.metadata.namespace or "", backend.metadata.name or ""
    target = find_target(index, backend)
    if isinstance(target, Reason):
        return target
    notes += [note for note in target.notes if note not in notes]
    injection = find_credential(index, namespace, name, target)
    if isinstance(injection, Reason):
        return injection
    body = ref.body_mutation or backend.spec.body_mutation
    if ref.body_mutation and backend.spec.body_mutation:
        body = _merge_bodies(backend, ref)
    headers = _merge_headers(backend.spec.header_mutation, ref.header_mutation)
    if headers is not None:
        changed = [*(header.name for header in headers.set), *headers.remove]
        told = [
            f"headerMutation of {namespace}/{name}: {text}"
            for text in map(problem_of_changing, changed)
            if text
        ]
        notes += [text for text in told if text not in notes]
    preparation = Preparation(
        schema=backend.spec.schema,
        model=ref.model_name_override or "",
        header_mutation=headers,
        body_mutation=body,
        credential=injection.credential if injection else None,
    )
    return _Choice(ref, f"{namespace}/{name}", target, preparation, injection)


def find_target(index: Index, backend: AIServiceBackend) -> Target | Reason:
    """Where an AIServiceBackend is, or why it cannot be used."""
    namespace, name = backend.metadata.namespace or "", backend.metadata.name or ""
    subject = f"AIServiceBackend {namespace}/{name}"
    schema = backend.spec.schema
    if schema.name not in SERVED_SCHEMAS:
        return Reason("UnsupportedValue", f"{subject}: schema {schema.name} is not served")
    if schema.name == "AzureOpenAI" and not schema.version:
        return Reason("Invalid", f"{subject}: schema AzureOpenAI needs a version, such as 2025-01-01-preview")
    ref = backend.spec.backend_ref
    key = (ref.namespace or namespace, ref.name)
    if not index.granted(_GROUP, "AIServiceBackend", namespace, ref.group, ref.kind, key):
        return Reason(
            "RefNotPermitted", f"no ReferenceGrant lets {subject} refer to {ref.kind} {key[0]}/{key[1]}"
        )
    if ref.kind == "Service":
        if ref.port is None:
            return Reason("Invalid", f"{subject}: a reference to a Service names a port")
        return find_service(index, *key, ref.port)
    return find_backend(index, *key)


def _merge_headers(base: HeaderMutation | None, over: HeaderMutation | None) -> HeaderMutation | None:
    """The route's mutation beats the backend's for the same header."""
    if not base or not over:
        return over or base
    named = {header.name.lower() for header in over.set} | {name.lower() for name in over.remove}
    return HeaderMutation(
        set=[*over.set, *(header for header in base.set if header.name.lower() not in named)],
        remove=[*over.remove, *(name for name in base.remove if name.lower() not in named)],
    )


def _merge_bodies(backend: AIServiceBackend, ref: AIGatewayRouteBackendRef) -> Any:
    base, over = backend.spec.body_mutation, ref.body_mutation
    assert base is not None
    assert over is not None
    named = {item.path for item in over.set} | set(over.remove)
    return msgspec.structs.replace(
        over,
        set=[*over.set, *(item for item in base.set if item.path not in named)],
        remove=[*over.remove, *(path for path in base.remove if path not in named)],
    )


def _route_action(
    world: World, rule: AIGatewayRouteRule, choices: list[_Choice], resilience: Resilience
) -> dict[str, Any]:
    """`metadata` in it is what goes into the route's own, by filter; `tiers` its backends by priority."""
    made = [
        _add_cluster(world, choice, preparation)
        for choice, preparation in zip(choices, _preparations(choices, resilience), strict=True)
    ]
    lost = [world.is_lost(choice.target) for choice in choices]
    tiers = tiers_of([each for each, is_lost in zip(made, lost, strict=True) if not is_lost] or made)
    specifier = {
        "@type": TYPE
        + "envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier",
        "priority_groups": priority_groups(tiers),
        "override_metadata_namespace": "io.kajitori.order",
    }
    action: dict[str, Any] = {
        "inline_cluster_specifier_plugin": {
            "extension": {
                "name": "envoy.router.cluster_specifier_plugin.priority_group",
                "typed_config": specifier,
            }
        },
        "auto_host_rewrite": True,
        **default_retries(rule, resilience, attempt_count(tiers)),
    }
    captured = capture_config(choice.injection.credential for choice in choices if choice.injection)
    return {
        "route": action,
        **({"typed_per_filter_config": captured} if captured else {}),
        **decision_headers(resilience),
        "metadata": {LUA_FILTER: order_metadata(tiers, resilience)},
        "tiers": tiers,
    }


def _preparations(choices: list[_Choice], resilience: Resilience) -> list[Preparation]:
    """How attempts at each backend are prepared beside its siblings, of which one may have been tried before."""
    lowest = max(choice.ref.priority for choice in choices)
    return [
        msgspec.structs.replace(
            choice.preparation,
            undo=tuple(
                sorted(
                    set[str]().union(
                        *(other.preparation.written_headers for other in choices if other is not choice)
                    )
                )
            ),
            restore=any(each.preparation.changes_request for each in choices),
            strip_credentials=any(each.injection for each in choices),
            cooled=is_remembered(len(choices), resilience),
            spare=len(choices) > 1,
            followed=choice.ref.priority < lowest,
        )
        for choice in choices
    ]


def _add_cluster(world: World, choice: _Choice, preparation: Preparation) -> Choice:
    """The cluster of a backend as a rule needs it, which the world has from now on."""
    name = cluster_name(f"ai/{choice.name}", preparation)
    world.add_cluster(name, lambda: ai_cluster(name, choice.target, preparation, choice.name), choice.target)
    world.backends[name] = (choice.name, preparation.model)
    if choice.injection and choice.injection.secret:
        world.secrets[choice.injection.credential.sds_name] = choice.injection.secret
    return Choice(
        name,
        choice.name,
        preparation.model,
        choice.ref.weight,
        choice.ref.priority,
        keyless=preparation.credential is None,
    )


def _no_backend(key: str, missing: list[str]) -> dict[str, Any]:
    why = "; ".join(missing) or "every backend has weight 0, or none is listed"
    return {
        "direct_response": ai_error(
            503, literal(f"AIGatewayRoute {key} has no usable backend for this model: {why}")
        )
    }
