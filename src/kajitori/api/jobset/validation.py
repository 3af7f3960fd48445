"""What a JobSet must keep to, as CEL rules: names that fit, references that lead somewhere, and what may change.

Upstream's webhook compares old and new specs field by field. Rules cannot walk over the fields of an object, so the
comparison is written out for each of them, from the schemas. While a set is suspended, or gets suspended, its pod
templates may change in what queueing systems write: labels, annotations, node selectors, tolerations, gates.
"""

from __future__ import annotations

from kajitori.api.crd import rule
from kajitori.api.structural import builtin_schema

MOST_JOBS = 100
"""Replicated jobs in a set: what rules cost grows with it."""
MOST_RULES = 20
DOMAIN_AND_PATH = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$"
)
LONGEST_NAME = 63
_MUTABLE_WHILE_SUSPENDED = frozenset({"nodeSelector", "tolerations", "schedulingGates"})
_FORBIDDEN = "FieldValueForbidden"


def _same(name: str, where: str = "") -> str:
    """The field is as it was, or left out as it was."""
    new, old = f"self{where}.{name}", f"oldSelf{where}.{name}"
    return f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"


def _all_same(names: list[str], where: str = "") -> str:
    return " && ".join(f"({_same(name, where)})" for name in names)


def _pods_same(name: str) -> str:
    """The field of every pod template is as it was. Compared as lists: field by field would cost too much."""
    pod = "job.template.spec.template"
    here = f"has({pod}.spec) && has({pod}.spec.{name}) ? [{pod}.spec.{name}] : []"
    return f"self.replicatedJobs.map(job, {here}) == oldSelf.replicatedJobs.map(job, {here})"


_POD_FIELDS = sorted(
    set(builtin_schema("io.k8s.api.core.v1.PodSpec")["properties"]) - _MUTABLE_WHILE_SUSPENDED
)
_JOB_FIELDS = sorted(set(builtin_schema("io.k8s.api.batch.v1.JobSpec")["properties"]) - {"template"})

JOB_SPEC_RULES = [
    rule(_all_same(_JOB_FIELDS), "Jobs cannot change once the set is there", reason=_FORBIDDEN),
]
REPLICATED_JOB_RULES = [
    rule(
        "self.replicas == oldSelf.replicas",
        "the number of Jobs cannot change",
        reason=_FORBIDDEN,
        field_path=".replicas",
    ),
    rule(
        "self.groupName == oldSelf.groupName",
        "the group cannot change",
        reason=_FORBIDDEN,
        field_path=".groupName",
    ),
    rule(_same("dependsOn"), "what a replicated job waits for cannot change", reason=_FORBIDDEN),
    rule(
        _same("metadata", ".template"),
        "labels and annotations of Jobs cannot change",
        reason=_FORBIDDEN,
        field_path=".template.metadata",
    ),
    rule(
        "!has(self.template.spec.parallelism)"
        " || self.replicas * self.template.spec.parallelism <= 2147483647",
        "replicas times parallelism is more pods than can be counted",
        field_path=".replicas",
    ),
]

PATTERNS_ARE_VALID = rule(
    # The result does not matter: a pattern that is none is an error.
    "self.all(pattern, [''.matches(pattern)].size() == 1)",
    "each pattern must be a regular expression in the syntax of RE2",
)
RULE_NAMES_DIFFER = rule(
    "self.all(one, !has(one.name) || one.name == ''"
    " || self.exists_one(other, has(other.name) && other.name == one.name))",
    "the names of rules must differ",
)
_NAMES = "self.replicatedJobs.map(job, job.name)"
# There is no other way to know where in a list an item stands.
_POSITIONS = str(list(range(MOST_JOBS)))
_SUSPENDED = "(has({0}.suspend) && {0}.suspend)"
_RESTARTS_JOBS = "['RestartJob', 'RestartJobAndIgnoreMaxRestarts']"
_JOB = "job.template.spec"
_COORDINATING = "self.coordinator"

_CHANGES = [
    rule(
        f"{_NAMES} == oldSelf.replicatedJobs.map(job, job.name)",
        "replicated jobs cannot be added, removed or put in another order",
        reason=_FORBIDDEN,
        field_path=".replicatedJobs",
    ),
    rule(
        f"{_SUSPENDED.format('self')} || {_SUSPENDED.format('oldSelf')}"
        " || self.replicatedJobs == oldSelf.replicatedJobs",
        "Jobs can change only while the set is suspended, and then only in what placing pods depends on",
        reason=_FORBIDDEN,
        field_path=".replicatedJobs",
    ),
    rule(
        " && ".join(_pods_same(name) for name in _POD_FIELDS),
        "pods cannot change, but for labels, annotations, nodeSelector, tolerations and schedulingGates"
        " while the set is suspended",
        reason=_FORBIDDEN,
        field_path=".replicatedJobs",
    ),
    rule(
        _same("managedBy"),
        "who manages the set cannot change",
        reason=_FORBIDDEN,
        field_path=".managedBy",
    ),
]
_ORDER = [
    rule(
        "self.startupPolicy.startupPolicyOrder != 'InOrder'"
        " || self.replicatedJobs.all(job, !has(job.dependsOn) || size(job.dependsOn) == 0)",
        "startupPolicy InOrder and dependsOn exclude each other",
        field_path=".startupPolicy",
    ),
    rule(
        f"{_POSITIONS}.all(place, place >= size(self.replicatedJobs)"
        " || !has(self.replicatedJobs[place].dependsOn) || self.replicatedJobs[place].dependsOn.all(before,"
        f" {_POSITIONS}.exists(earlier, earlier < place"
        " && self.replicatedJobs[earlier].name == before.name)))",
        "dependsOn may only name replicated jobs that stand before this one",
        field_path=".replicatedJobs",
    ),
]
_POLICIES = [
    rule(
        "!has(self.successPolicy.targetReplicatedJobs) || self.successPolicy.targetReplicatedJobs.all(target,"
        " self.replicatedJobs.exists(job, job.name == target))",
        "targetReplicatedJobs must name replicated jobs of this set",
        field_path=".successPolicy.targetReplicatedJobs",
    ),
    rule(
        "!has(self.failurePolicy) || !has(self.failurePolicy.rules) || self.failurePolicy.rules.all(one,"
        " !has(one.targetReplicatedJobs) || one.targetReplicatedJobs.all(target,"
        " self.replicatedJobs.exists(job, job.name == target)))",
        "targetReplicatedJobs must name replicated jobs of this set",
        field_path=".failurePolicy.rules",
    ),
    rule(
        "!has(self.failurePolicy) || !has(self.failurePolicy.rules)"
        f" || !self.failurePolicy.rules.exists(one, one.action in {_RESTARTS_JOBS})"
        " || self.replicatedJobs.all(job, job.replicas <= 1024)",
        "a set that restarts Jobs one by one can have at most 1024 Jobs in a replicated job",
        field_path=".replicatedJobs",
    ),
    rule(
        "!has(self.failurePolicy) || self.failurePolicy.restartStrategy != 'InPlaceRestart'"
        f" || self.replicatedJobs.all(job, has({_JOB}.backoffLimit) && {_JOB}.backoffLimit == 2147483647"
        f" && has({_JOB}.podReplacementPolicy) && {_JOB}.podReplacementPolicy == 'Failed'"
        f" && has({_JOB}.completions) && has({_JOB}.parallelism) && {_JOB}.completions == {_JOB}.parallelism)",
        "InPlaceRestart needs Jobs with backoffLimit 2147483647, podReplacementPolicy Failed,"
        " and parallelism equal to completions",
        field_path=".failurePolicy.restartStrategy",
    ),
]
_COORDINATOR = [
    rule(
        f"!has({_COORDINATING}) || self.replicatedJobs.exists(job, job.name == {_COORDINATING}.replicatedJob"
        f" && {_COORDINATING}.jobIndex < job.replicas)",
        "the coordinator must be a pod of a Job of this set: no such replicated job, or jobIndex too high",
        field_path=".coordinator",
    ),
    rule(
        f"!has({_COORDINATING}) || self.replicatedJobs.all(job, job.name != {_COORDINATING}.replicatedJob"
        f" || ({_JOB}.completionMode == 'Indexed' && has({_JOB}.completions)"
        f" && {_COORDINATING}.podIndex < {_JOB}.completions))",
        "the coordinator's Job must have completionMode Indexed and completions above podIndex",
        field_path=".coordinator.podIndex",
    ),
]
SPEC_RULES = [*_CHANGES, *_ORDER, *_POLICIES, *_COORDINATOR]

_NAME = "size(self.metadata.name)"
_LONGEST_JOB = f"{_NAME} + size(job.name) + size(string(job.replicas > 0 ? job.replicas - 1 : 0)) + 2"
_WITHOUT_SPEC = "!has(self.spec) || "
NAME_RULES = [
    rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name becomes part of host names: lower-case letters, digits and '-', a letter first,"
        " no '-' at the end",
    ),
    rule(
        f"{_WITHOUT_SPEC}self.spec.replicatedJobs.all(job, {_LONGEST_JOB} <= {LONGEST_NAME})",
        f"names are too long: NAME-REPLICATEDJOB-INDEX must fit {LONGEST_NAME} characters",
    ),
    rule(
        f"{_WITHOUT_SPEC}self.spec.replicatedJobs.all(job, {_JOB}.completionMode != 'Indexed'"
        f" || !has({_JOB}.completions) || {_LONGEST_JOB} + 1"
        f" + size(string({_JOB}.completions > 0 ? {_JOB}.completions - 1 : 0)) + 6 <= {LONGEST_NAME})",
        f"names are too long: NAME-REPLICATEDJOB-INDEX-POD-abcde must fit {LONGEST_NAME} characters",
    ),
    rule(
        f"{_WITHOUT_SPEC}!has(self.spec.coordinator)"
        f" || {_NAME} + size(self.spec.coordinator.replicatedJob)"
        " + size(string(self.spec.coordinator.jobIndex)) + size(string(self.spec.coordinator.podIndex)) + 4"
        " + (has(self.spec.network.subdomain) && self.spec.network.subdomain != ''"
        f" ? size(self.spec.network.subdomain) : {_NAME}) <= {LONGEST_NAME}",
        "names are too long: the coordinator's address must fit the"
        f" {LONGEST_NAME} characters of a label (shorten the name or network.subdomain)",
    ),
    rule(
        f"{_WITHOUT_SPEC}!has(self.spec.volumeClaimPolicies)"
        " || self.spec.volumeClaimPolicies.all(policy, !has(policy.templates)"
        f" || policy.templates.all(claim, size(claim.metadata.name) + 1 + {_NAME} <= {LONGEST_NAME}))",
        f"names are too long: CLAIM-NAME must fit {LONGEST_NAME} characters",
    ),
]
