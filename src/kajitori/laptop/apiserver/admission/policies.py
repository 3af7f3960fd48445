"""ValidatingAdmissionPolicies with their bindings: expressions over the request decide.

A policy is compiled once a version. Expressions are evaluated in this process, so a policy never makes a write
wait. Source: API reference of admissionregistration.k8s.io/v1 and behaviour of kube-apiserver 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from kajitori.api.resource import Resource
from kajitori.base.cel import CompileError, EvaluationError, Program, compile_expression
from kajitori.base.cel.authorization import AUTHORIZER
from kajitori.base.cel.types import BOOL, DYN, STRING, ObjectType, Type
from kajitori.laptop.apiserver.admission.expressions import (
    NAMESPACE,
    REQUEST,
    STEPS_OF_A_POLICY,
    Condition,
    compile_conditions,
    conditions_hold,
)
from kajitori.laptop.apiserver.admission.matching import Match, Rules, Selectors, match_of
from kajitori.laptop.apiserver.admission.review import Review

Object = dict[str, Any]
LONGEST_MESSAGE_BYTES: Final = 5 << 10
LONGEST_ANNOTATION: Final = 10 << 10
CODES: Final = {"Invalid": 422, "Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}
FAILURE_ANNOTATION: Final = "validation.policy.admission.k8s.io/validation_failure"


class ConfigurationError(Exception):
    """A policy or binding that cannot be evaluated as it is configured."""


class _Later(dict[str, Any]):
    """Variables of a policy, each evaluated when it is first asked for."""

    def __init__(self, programs: Mapping[str, Program], values: Mapping[str, Any]) -> None:
        super().__init__()
        self._programs = programs
        self._values = values

    def __contains__(self, key: object) -> bool:
        return key in self._programs

    def __missing__(self, key: str) -> Any:
        program = self._programs.get(key)
        if program is None:
            raise KeyError(key)
        value = self[key] = program.evaluate({**self._values, "variables": self}, steps=STEPS_OF_A_POLICY)
        return value


def variables_of(
    spec: Object, *, authorizer: bool = True, object_type: Type = DYN, params_type: Type = DYN
) -> tuple[dict[str, Type], dict[str, Program]]:
    """What expressions of a policy see, and its own variables compiled. Raises CompileError."""
    types: dict[str, Type] = {
        "object": object_type,
        "oldObject": object_type,
        "request": REQUEST,
        "namespaceObject": NAMESPACE,
    }
    if spec.get("paramKind"):
        types["params"] = params_type
    if authorizer:
        types["authorizer"] = AUTHORIZER
    programs: dict[str, Program] = {}
    known: dict[str, Type] = {}
    types["variables"] = ObjectType(
        "object", name="variables", find=lambda name: (name, known[name]) if name in known else None
    )
    for variable in spec.get("variables") or ():
        program = compile_expression(variable.get("expression", ""), types)
        programs[variable["name"]] = program
        known[variable["name"]] = program.result
    return types, programs


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an object is refused. index: of the validation, -1 where there is none."""

    message: str
    reason: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class _Validation:
    program: Program
    message: str
    message_program: Program | None
    reason: str


@dataclass(frozen=True, slots=True)
class Binding:
    """A ValidatingAdmissionPolicyBinding."""

    name: str
    spec: Object
    rules: Rules | None
    excluded: Rules
    selectors: Selectors

    @staticmethod
    def of(obj: Object) -> Binding:
        spec: Object = obj.get("spec") or {}
        resources: Object = spec.get("matchResources") or {}
        equivalent = resources.get("matchPolicy") != "Exact"
        rules = resources.get("resourceRules")
        return Binding(
            obj["metadata"]["name"],
            spec,
            Rules(rules, equivalent=equivalent) if rules else None,
            Rules(resources.get("excludeResourceRules") or (), equivalent=equivalent),
            Selectors.of(resources),
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy made ready. problem: why it cannot be evaluated at all, else empty."""

    name: str
    spec: Object
    rules: Rules
    excluded: Rules
    selectors: Selectors
    conditions: list[Condition]
    validations: list[_Validation]
    annotations: list[tuple[str, Program]]
    variables: dict[str, Program]
    problem: str = ""

    @property
    def fails_open(self) -> bool:
        return self.spec.get("failurePolicy") == "Ignore"

    @staticmethod
    def of(obj: Object) -> Policy:
        spec: Object = obj.get("spec") or {}
        constraints: Object = spec.get("matchConstraints") or {}
        equivalent = constraints.get("matchPolicy") != "Exact"
        conditions: list[Condition] = []
        validations: list[_Validation] = []
        annotations: list[tuple[str, Program]] = []
        programs: dict[str, Program] = {}
        problem = ""
        try:
            types, programs = variables_of(spec)
            plain = {name: kind for name, kind in types.items() if name != "variables"}
            conditions = compile_conditions(spec.get("matchConditions"), plain)
            validations = [_validation(declared, types) for declared in spec.get("validations") or ()]
            annotations = [
                (declared["key"], compile_expression(declared.get("valueExpression", ""), types))
                for declared in spec.get("auditAnnotations") or ()
            ]
        except CompileError as error:
            problem = f"compilation error: compilation failed: {error.message}"
        return Policy(
            obj["metadata"]["name"],
            spec,
            Rules(constraints.get("resourceRules") or (), equivalent=equivalent),
            Rules(constraints.get("excludeResourceRules") or (), equivalent=equivalent),
            Selectors.of(constraints),
            conditions,
            validations,
            annotations,
            programs,
            problem,
        )

    def failures(self, values: Mapping[str, Any], annotations: dict[str, list[str]]) -> list[Failure]:
        """All that is wrong with a request. values: variables; annotations: filled in with what is to be noted."""
        try:
            if self.problem:
                raise EvaluationError(self.problem)
            if not conditions_hold(self.conditions, values):
                return []
        except EvaluationError as error:
            return [] if self.fails_open else [Failure(error.message)]
        complete = {**values, "variables": _Later(self.variables, values)}
        found = [
            failure
            for index, validation in enumerate(self.validations)
            if (failure := self._failure(index, validation, complete)) is not None
        ]
        return found + self._note(complete, annotations)

    def _failure(self, index: int, validation: _Validation, values: Mapping[str, Any]) -> Failure | None:
        source = validation.program.source
        try:
            if validation.program.evaluate(values, steps=STEPS_OF_A_POLICY) is True:
                return None
        except EvaluationError as error:
            text = f"expression '{source}' resulted in error: {error.message}"
            return None if self.fails_open else Failure(text, "", index)
        return Failure(_message(validation, values), validation.reason, index)

    def _note(self, values: Mapping[str, Any], annotations: dict[str, list[str]]) -> list[Failure]:
        failures: list[Failure] = []
        for key, program in self.annotations:
            try:
                value = program.evaluate(values, steps=STEPS_OF_A_POLICY)
            except EvaluationError as error:
                if not self.fails_open:
                    text = f"expression '{program.source}' resulted in error: {error.message}"
                    failures.append(Failure(text, "", -1))
                continue
            if isinstance(value, str) and value.strip():
                noted = annotations.setdefault(f"{self.name}/{key}", [])
                text = value.strip()[:LONGEST_ANNOTATION]
                if text not in noted:
                    noted.append(text)
        return failures


def _validation(declared: Object, types: Mapping[str, Type]) -> _Validation:
    without = {name: kind for name, kind in types.items() if name != "authorizer"}
    expression = declared.get("messageExpression")
    return _Validation(
        compile_expression(declared.get("expression", ""), types, result=BOOL),
        (declared.get("message") or "").strip(),
        compile_expression(expression, without, result=STRING) if expression else None,
        declared.get("reason") or "Invalid",
    )


def _message(validation: _Validation, values: Mapping[str, Any]) -> str:
    if validation.message_program is not None:
        try:
            words = validation.message_program.evaluate(values, steps=STEPS_OF_A_POLICY)
        except EvaluationError:
            words = ""
        if isinstance(words, str):
            words = words.strip()
            if words and "\n" not in words and len(words.encode()) <= LONGEST_MESSAGE_BYTES:
                return words
    return validation.message or f"failed expression: {validation.program.source.strip()}"


class Applied(NamedTuple):
    """A policy with its bindings, for one resource and operation. matches: how its rules fit."""

    policy: Policy
    matches: Sequence[Match]
    excluded: Sequence[Match]
    bindings: Sequence[tuple[Binding, Sequence[Match] | None, Sequence[Match]]]


def applied(
    policies: Sequence[Policy],
    bindings: Sequence[Binding],
    match: Callable[[Rules], Sequence[Match]],
) -> list[Applied]:
    """What of the configured applies to a resource. match: how rules fit it."""
    found: list[Applied] = []
    for policy in policies:
        matches = match(policy.rules)
        if not matches:
            continue
        bound = [
            (binding, match(binding.rules) if binding.rules else None, match(binding.excluded))
            for binding in bindings
            if binding.spec.get("policyName") == policy.name
        ]
        bound = [entry for entry in bound if entry[1] is None or entry[1]]
        if bound:
            found.append(Applied(policy, matches, match(policy.excluded), bound))
    return found


@dataclass(frozen=True, slots=True)
class World:
    """What policies ask of the server.

    params(kind, reference, namespace): objects that a binding names; raises ConfigurationError.
    """

    namespace_labels: Callable[[Review], dict[str, str]]
    values: Callable[[Review, Resource], Object]
    namespace: Callable[[Review], Object | None]
    params: Callable[[Object, Object, str], list[Object | None]]


def judge(chosen: Sequence[Applied], review: Review, world: World) -> None:
    """Raises StatusError for the first refusal; warnings and notes for the audit log go to the review."""
    denials: list[tuple[str, str]] = []
    for entry in chosen:
        policy = entry.policy
        match = match_of(entry.matches, review.name)
        if (
            match is None
            or match_of(entry.excluded, review.name) is not None
            or not policy.selectors.choose(review, world.namespace_labels)
        ):
            continue
        notes: dict[str, list[str]] = {}
        for binding, failure in _binding_failures(entry, match, review, world, notes):
            _act(policy, binding, failure, review, denials)
        review.annotations.update((key, ", ".join(values)) for key, values in notes.items())
    if denials:
        message, reason = denials[0]
        error = review.forbidden(message)
        error.status["reason"] = reason or "Invalid"
        error.status["code"] = error.code = CODES.get(reason or "Invalid", 422)
        error.status["details"]["causes"] = [{"message": message}]
        raise error


def _binding_failures(
    entry: Applied, match: Match, review: Review, world: World, notes: dict[str, list[str]]
) -> Iterator[tuple[Binding, Failure]]:
    policy = entry.policy
    values: Object | None = None
    for binding, matches, excluded in entry.bindings:
        if (
            (matches is not None and match_of(matches, review.name) is None)
            or match_of(excluded, review.name) is not None
            or not binding.selectors.choose(review, world.namespace_labels)
        ):
            continue
        try:
            params = _params(policy, binding, review, world)
        except ConfigurationError as problem:
            if not policy.fails_open:
                yield binding, Failure(f"failed to configure binding: {problem}", "", -1)
            continue
        if values is None:
            values = {**world.values(review, match.resource), "namespaceObject": world.namespace(review)}
        for param in params:
            for failure in policy.failures({**values, "params": param}, notes):
                yield binding, failure


def _params(policy: Policy, binding: Binding, review: Review, world: World) -> list[Object | None]:
    kind, reference = policy.spec.get("paramKind"), binding.spec.get("paramRef")
    if not kind or not reference:
        return [None]
    params = world.params(kind, reference, review.namespace)
    if not params and reference.get("parameterNotFoundAction") == "Deny":
        raise ConfigurationError("no params found for policy binding with `Deny` parameterNotFoundAction")
    return params


def _act(
    policy: Policy, binding: Binding, failure: Failure, review: Review, denials: list[tuple[str, str]]
) -> None:
    actions: list[str] = ["Deny"] if failure.index < 0 else binding.spec.get("validationActions") or []
    for action in actions:
        if action == "Deny":
            message = (
                f"ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}' denied request: "
                f"{failure.message}"
            )
            denials.append((message, failure.reason))
        elif action == "Warn":
            review.warnings.append(
                f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with binding "
                f"'{binding.name}': {failure.message}"
            )
        elif action == "Audit":
            noted: Object = {
                "message": failure.message,
                "policy": policy.name,
                "binding": binding.name,
                "expressionIndex": failure.index,
                "validationActions": binding.spec.get("validationActions"),
            }
            review.annotations[FAILURE_ANNOTATION] = msgspec.json.encode([noted]).decode()
