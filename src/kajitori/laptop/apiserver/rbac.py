"""Whether a user may: roles and bindings compiled into rules for each user, and answers remembered.

Everything is rebuilt lazily after any change to a role or binding. `system:masters` may do all. Nodes are judged
by `node_rights`. Writing a role or binding asks in addition that its author already holds what it grants, or
may `escalate` or `bind`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.laptop.apiserver.label_selectors import selects
from kajitori.laptop.apiserver.pki import MASTERS_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kajitori.laptop.apiserver.auth import User
    from kajitori.laptop.apiserver.history import Event
    from kajitori.laptop.apiserver.store import Store

GROUP = "rbac.authorization.k8s.io"
ROLES = f"roles.{GROUP}"
CLUSTER_ROLES = f"clusterroles.{GROUP}"
ROLE_BINDINGS = f"rolebindings.{GROUP}"
CLUSTER_ROLE_BINDINGS = f"clusterrolebindings.{GROUP}"
_WATCHED = frozenset({ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS})
ANSWERS_REMEMBERED = 20_000


class Attributes(NamedTuple):
    """What is asked for. resource empty: path is a non-resource URL. resource has its subresource: `pods/log`.

    on_node: the node to which a list's field selector restricts it.
    """

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    on_node: str = ""

    def sentence(self, user: str) -> str:
        """As a 403 says it."""
        scope = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        return (
            f'User "{user}" cannot {self.verb} resource "{self.resource}" in API group "{self.group}" {scope}'
        )


class _PolicyRule(msgspec.Struct, frozen=True, rename="camel"):
    verbs: list[str] = msgspec.field(default_factory=list)
    api_groups: list[str] | None = None
    resources: list[str] | None = None
    resource_names: list[str] | None = None
    non_resource_urls: list[str] | None = msgspec.field(default=None, name="nonResourceURLs")


class Rule(msgspec.Struct, frozen=True):
    """A policy rule ready to be asked."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()

    def allows(self, asked: Attributes) -> bool:
        if asked.verb not in self.verbs and "*" not in self.verbs:
            return False
        if not asked.resource:
            return any(_path_matches(path, asked.path) for path in self.paths)
        if asked.group not in self.groups and "*" not in self.groups:
            return False
        if self.names and asked.name not in self.names:
            return False
        if asked.resource in self.resources or "*" in self.resources:
            return True
        _, slash, subresource = asked.resource.partition("/")
        return bool(slash) and f"*/{subresource}" in self.resources

    def as_policy(self) -> dict[str, Any]:
        """As reviews show it."""
        if self.paths:
            return {"verbs": sorted(self.verbs), "nonResourceURLs": list(self.paths)}
        policy: dict[str, Any] = {
            "verbs": sorted(self.verbs),
            "apiGroups": sorted(self.groups),
            "resources": sorted(self.resources),
        }
        if self.names:
            policy["resourceNames"] = sorted(self.names)
        return policy


def _path_matches(pattern: str, path: str) -> bool:
    if pattern == "*":
        return True
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


def compile_rules(rules: Iterable[dict[str, Any]]) -> tuple[Rule, ...]:
    """Policy rules of a role. A rule that cannot be read grants nothing."""
    compiled: list[Rule] = []
    for raw in rules:
        try:
            rule = msgspec.convert(raw, _PolicyRule)
        except msgspec.ValidationError:
            continue
        verbs = frozenset(rule.verbs)
        if rule.non_resource_urls:
            compiled.append(Rule(verbs, paths=tuple(rule.non_resource_urls)))
        if rule.resources:
            compiled.append(
                Rule(
                    verbs,
                    frozenset(rule.api_groups or ()),
                    frozenset(rule.resources),
                    frozenset(rule.resource_names or ()),
                )
            )
    return tuple(compiled)


class _Binding(NamedTuple):
    subjects: frozenset[tuple[str, str]]
    role: tuple[str, str, str]
    namespace: str


def subjects_of(binding: dict[str, Any]) -> frozenset[tuple[str, str]]:
    """(`User` or `Group`, name) for each subject; service accounts become their user name."""
    found: set[tuple[str, str]] = set()
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name", "")
        if kind == "ServiceAccount":
            found.add(("User", f"system:serviceaccount:{subject.get('namespace', '')}:{name}"))
        elif kind in ("User", "Group"):
            found.add((kind, name))
    return frozenset(found)


def role_key(reference: dict[str, Any], namespace: str) -> tuple[str, str, str]:
    """Store key of the role that a binding refers to."""
    if reference.get("kind") == "ClusterRole":
        return (CLUSTER_ROLES, "", reference.get("name", ""))
    return (ROLES, namespace, reference.get("name", ""))


class Authorizer:
    """Answers `allows` for a user and attributes from the roles and bindings in the store."""

    def __init__(self, store: Store, node_rights: Callable[[User, Attributes], bool]) -> None:
        self._store = store
        self._node_rights = node_rights
        self._bindings: list[_Binding] | None = None
        self._roles: dict[tuple[str, str, str], tuple[Rule, ...]] = {}
        self._answers: dict[tuple[str, tuple[str, ...], Attributes], bool] = {}
        store.listeners.append(self._on_event)

    def _on_event(self, resource: str, event: Event) -> None:
        if resource in _WATCHED:
            self._bindings = None
            self._roles.clear()
            self._answers.clear()

    def allows(self, user: User, asked: Attributes) -> bool:
        if MASTERS_GROUP in user.groups:
            return True
        key = (user.name, user.groups, asked)
        answer = self._answers.get(key)
        if answer is None:
            answer = any(rule.allows(asked) for rule in self.rules(user, asked.namespace))
            if len(self._answers) >= ANSWERS_REMEMBERED:
                self._answers.clear()
            self._answers[key] = answer
        # What a node may see follows the pods bound to it, so it is never remembered.
        return answer or self._node_rights(user, asked)

    def rules(self, user: User, namespace: str) -> list[Rule]:
        """All rules that hold for the user in a namespace, cluster-wide ones included (empty: only those)."""
        if MASTERS_GROUP in user.groups:
            star = frozenset({"*"})
            return [Rule(star, star, star), Rule(star, paths=("*",))]
        subjects = {("User", user.name), *(("Group", group) for group in user.groups)}
        found: list[Rule] = []
        for binding in self._compiled_bindings():
            if (not binding.namespace or binding.namespace == namespace) and not subjects.isdisjoint(
                binding.subjects
            ):
                rules = self.role_rules(binding.role)
                # Rights to paths come only from cluster-wide bindings.
                found.extend(rule for rule in rules if not (binding.namespace and rule.paths))
        return found

    def role_rules(self, key: tuple[str, str, str]) -> tuple[Rule, ...]:
        """Rules of a role by store key; none if it is absent. Aggregated roles have theirs filled in already."""
        rules = self._roles.get(key)
        if rules is None:
            entry = self._store.get(*key)
            rules = compile_rules(entry.peek().get("rules") or ()) if entry else ()
            if entry is not None:
                rules = (*rules, *self._aggregated(entry.peek()))
            self._roles[key] = rules
        return rules

    def _aggregated(self, role: dict[str, Any]) -> list[Rule]:
        """Rules of the cluster roles that an aggregation rule selects by label."""
        selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
        found: list[Rule] = []
        for selector in selectors:
            # By the API an empty one would choose every role there is; nobody is given all rights by leaving out.
            if not any(selector.values()):
                continue
            for entry in self._store.table(CLUSTER_ROLES).scan():
                if selects(selector, entry.labels):
                    found.extend(compile_rules(entry.peek().get("rules") or ()))
        return found

    def _compiled_bindings(self) -> list[_Binding]:
        if self._bindings is None:
            self._bindings = [
                _Binding(
                    subjects_of(obj := entry.peek()),
                    role_key(obj.get("roleRef") or {}, entry.namespace),
                    entry.namespace,
                )
                for resource in (CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS)
                for entry in self._store.table(resource).scan()
            ]
        return self._bindings

    def missing(self, user: User, namespace: str, wanted: Iterable[Rule]) -> list[Rule]:
        """What the user does not hold in that scope of the rights in `wanted`: a rule for each resource or path."""
        held = self.rules(user, namespace)
        verbs: dict[tuple[str, str, str, str], set[str]] = {}
        for rule in wanted:
            for place, verb in _single_rights(rule):
                group, resource, name, path = place
                fits = (
                    any(("*" in r.verbs or verb in r.verbs) and _path_covered(path, r.paths) for r in held)
                    if path
                    else any(_grants(r, verb, group, resource, name) for r in held)
                )
                if not fits:
                    verbs.setdefault(place, set()).add(verb)
        return [_rule_of(place, frozenset(lacking)) for place, lacking in sorted(verbs.items())]


def _single_rights(rule: Rule) -> Iterable[tuple[tuple[str, str, str, str], str]]:
    """(group, resource, name, path) and verb of each right of a rule."""
    for verb in rule.verbs:
        for path in rule.paths:
            yield ("", "", "", path), verb
        for group in rule.groups:
            for resource in rule.resources:
                for name in rule.names or ("",):
                    yield (group, resource, name, ""), verb


def _rule_of(place: tuple[str, str, str, str], verbs: frozenset[str]) -> Rule:
    group, resource, name, path = place
    if path:
        return Rule(verbs, paths=(path,))
    return Rule(verbs, frozenset({group}), frozenset({resource}), frozenset({name} if name else ()))


def _grants(rule: Rule, verb: str, group: str, resource: str, name: str) -> bool:
    if rule.names and (not name or name not in rule.names):
        return False
    return (
        ("*" in rule.verbs or verb in rule.verbs)
        and ("*" in rule.groups or group in rule.groups)
        and (
            "*" in rule.resources
            or resource in rule.resources
            or f"*/{resource.partition('/')[2]}" in rule.resources
        )
    )


def _path_covered(path: str, held: tuple[str, ...]) -> bool:
    return any(
        pattern == path or (pattern.endswith("*") and path.startswith(pattern[:-1])) for pattern in held
    )
