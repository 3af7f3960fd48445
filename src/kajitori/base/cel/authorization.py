"""The authorizer library: what a user may do, asked from inside an expression.

`authorizer.group('apps').resource('deployments').namespace('a').check('create').allowed()`. Who evaluates an
expression that uses it declares a variable of type `AUTHORIZER` and gives it an `Authorizer`, whose `ask` judges.
Source: the Kubernetes documentation, "Kubernetes authorizer library".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.functions import method
from kajitori.base.cel.types import BOOL, STRING, ObjectType, Type, simple
from kajitori.base.cel.values import KINDS


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. path: of a URL that is no resource; else the rest names a resource.

    user: of a service account (`system:serviceaccount:NAMESPACE:NAME`); empty for who makes the request.
    """

    verb: str = ""
    path: str = ""
    group: str = ""
    version: str = "*"
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a check."""

    allowed: bool
    reason: str = ""


Ask = Callable[[Question], Decision]


@dataclass(frozen=True, slots=True)
class PathCheck:
    ask: Ask
    question: Question


@dataclass(frozen=True, slots=True)
class GroupCheck:
    ask: Ask
    question: Question


@dataclass(frozen=True, slots=True)
class ResourceCheck:
    ask: Ask
    question: Question


@dataclass(frozen=True, slots=True)
class Authorizer:
    """request: the resource that the present request is for, as `authorizer.requestResource` names it."""

    ask: Ask
    request: Question = Question()
    user: str = ""

    def __getitem__(self, name: str) -> ResourceCheck:
        if name != "requestResource":
            raise KeyError(name)
        return ResourceCheck(self.ask, self.request)


RESOURCE_CHECK: Final = simple("kubernetes.authorization.ResourceCheck")
GROUP_CHECK: Final = simple("kubernetes.authorization.GroupCheck")
PATH_CHECK: Final = simple("kubernetes.authorization.PathCheck")
DECISION: Final = simple("kubernetes.authorization.Decision")


def _field(name: str) -> tuple[str, Type] | None:
    return (name, RESOURCE_CHECK) if name == "requestResource" else None


AUTHORIZER: Final = ObjectType("kubernetes.authorization.Authorizer", find=_field)
KINDS.update(
    {
        Authorizer: AUTHORIZER.kind,
        PathCheck: PATH_CHECK.kind,
        GroupCheck: GROUP_CHECK.kind,
        ResourceCheck: RESOURCE_CHECK.kind,
        Decision: DECISION.kind,
    }
)


def _path(authorizer: Authorizer, path: str) -> PathCheck:
    if not path:
        raise EvaluationError("path must not be empty")
    return PathCheck(authorizer.ask, Question(path=path, user=authorizer.user))


def _service_account(authorizer: Authorizer, namespace: str, name: str) -> Authorizer:
    if not namespace or not name:
        raise EvaluationError("Invalid service account namespace or name: must not be empty")
    return replace(authorizer, user=f"system:serviceaccount:{namespace}:{name}")


def _with(check: ResourceCheck, **fields: str) -> ResourceCheck:
    return ResourceCheck(check.ask, replace(check.question, **fields))


def _check(check: PathCheck | ResourceCheck, verb: str) -> Decision:
    return check.ask(replace(check.question, verb=verb))


method("path", (AUTHORIZER, STRING), PATH_CHECK, _path)
method(
    "group",
    (AUTHORIZER, STRING),
    GROUP_CHECK,
    lambda authorizer, group: GroupCheck(authorizer.ask, Question(group=group, user=authorizer.user)),
)
method("serviceAccount", (AUTHORIZER, STRING, STRING), AUTHORIZER, _service_account)
method(
    "resource",
    (GROUP_CHECK, STRING),
    RESOURCE_CHECK,
    lambda check, resource: ResourceCheck(check.ask, replace(check.question, resource=resource)),
)
method("subresource", (RESOURCE_CHECK, STRING), RESOURCE_CHECK, lambda c, name: _with(c, subresource=name))
method("namespace", (RESOURCE_CHECK, STRING), RESOURCE_CHECK, lambda c, name: _with(c, namespace=name))
method("name", (RESOURCE_CHECK, STRING), RESOURCE_CHECK, lambda c, name: _with(c, name=name))
# Rights are not given by selectors here: a check with one is a check without.
method("fieldSelector", (RESOURCE_CHECK, STRING), RESOURCE_CHECK, lambda check, _selector: check)
method("labelSelector", (RESOURCE_CHECK, STRING), RESOURCE_CHECK, lambda check, _selector: check)
method("check", (RESOURCE_CHECK, STRING), DECISION, _check)
method("check", (PATH_CHECK, STRING), DECISION, _check)
method("allowed", (DECISION,), BOOL, lambda decision: decision.allowed)
method("reason", (DECISION,), STRING, lambda decision: decision.reason)
method("errored", (DECISION,), BOOL, lambda _decision: False)
method("error", (DECISION,), STRING, lambda _decision: "")
