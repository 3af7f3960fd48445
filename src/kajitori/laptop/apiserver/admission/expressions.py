"""Expressions of webhooks and policies: which variables they see, and what running one costs at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kajitori.base.cel import CompileError, EvaluationError, Program, compile_expression
from kajitori.base.cel.authorization import AUTHORIZER, Authorizer, Decision, Question
from kajitori.base.cel.types import BOOL, DYN, STRING, ObjectType, Type, list_of, map_of
from kajitori.laptop.apiserver.rbac import Attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kajitori.laptop.apiserver.admission.review import Review
    from kajitori.laptop.apiserver.auth import User
    from kajitori.laptop.apiserver.rbac import Authorizer as Rights

Object = dict[str, Any]
STEPS_OF_CONDITIONS: Final = 1_000_000
STEPS_OF_A_POLICY: Final = 1_000_000


def _struct(name: str, fields: Mapping[str, Type]) -> Type:
    known = dict(fields)
    return ObjectType(
        "object", name=name, find=lambda field: (field, known[field]) if field in known else None
    )


_KIND = _struct("kubernetes.GroupVersionKind", dict.fromkeys(("group", "version", "kind"), STRING))
_RESOURCE = _struct(
    "kubernetes.GroupVersionResource", dict.fromkeys(("group", "version", "resource"), STRING)
)
_USER = _struct(
    "kubernetes.UserInfo",
    {
        "username": STRING,
        "uid": STRING,
        "groups": list_of(STRING),
        "extra": map_of(STRING, list_of(STRING)),
    },
)
REQUEST: Final = _struct(
    "kubernetes.AdmissionRequest",
    {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": _USER,
        "dryRun": BOOL,
        "options": DYN,
    },
)
_METADATA = _struct(
    "kubernetes.NamespaceMetadata",
    {
        "name": STRING,
        "generateName": STRING,
        "labels": map_of(STRING, STRING),
        "annotations": map_of(STRING, STRING),
        "UID": STRING,
        "uid": STRING,
        "creationTimestamp": DYN,
        "deletionTimestamp": DYN,
        "deletionGracePeriodSeconds": DYN,
        "resourceVersion": STRING,
    },
)
NAMESPACE: Final = _struct(
    "kubernetes.Namespace",
    {
        "metadata": _METADATA,
        "spec": _struct("kubernetes.NamespaceSpec", {"finalizers": list_of(STRING)}),
        "status": _struct("kubernetes.NamespaceStatus", {"phase": STRING}),
    },
)
WEBHOOK_VARIABLES: Final[dict[str, Type]] = {
    "object": DYN,
    "oldObject": DYN,
    "request": REQUEST,
    "authorizer": AUTHORIZER,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A match condition. program None: it does not compile, which counts as an error of each evaluation."""

    name: str
    program: Program | None
    problem: str = ""


def compile_conditions(declared: Sequence[Object] | None, variables: Mapping[str, Type]) -> list[Condition]:
    conditions: list[Condition] = []
    for condition in declared or ():
        name = condition.get("name", "")
        try:
            program = compile_expression(condition.get("expression", ""), variables, result=BOOL)
        except CompileError as error:
            conditions.append(Condition(name, None, error.message))
        else:
            conditions.append(Condition(name, program))
    return conditions


def conditions_hold(conditions: Sequence[Condition], values: Mapping[str, Any]) -> bool:
    """Whether all hold; one that is false decides whatever errors others have. Raises EvaluationError."""
    problems: list[str] = []
    for condition in conditions:
        if condition.program is None:
            problems.append(f"compilation error: {condition.problem}")
            continue
        try:
            if condition.program.evaluate(values, steps=STEPS_OF_CONDITIONS) is False:
                return False
        except EvaluationError as error:
            problems.append(f"expression '{condition.program.source}' resulted in error: {error.message}")
    if problems:
        raise EvaluationError(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
    return True


def authorizer_of(rights: Rights, review: Review) -> Authorizer:
    """Answers for the user of a request, or for a service account."""
    from kajitori.laptop.apiserver.auth import AUTHENTICATED, User

    def user_of(name: str) -> User:
        if not name:
            return review.user
        namespace = name.split(":")[2]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        return User(name, groups)

    def ask(question: Question) -> Decision:
        resource = question.resource
        if question.subresource:
            resource = f"{resource}/{question.subresource}"
        attributes = Attributes(
            question.verb,
            question.group,
            resource,
            question.namespace,
            question.name,
            path=question.path,
        )
        return Decision(rights.allows(user_of(question.user), attributes))

    resource = review.resource
    own = Question(
        group=resource.group,
        version=resource.version,
        resource=resource.plural,
        subresource=review.subresource,
        namespace=review.namespace,
        name=review.name,
    )
    return Authorizer(ask, own)
