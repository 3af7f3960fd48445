"""Pod Security Standards: what the labels of a namespace ask of its pods. Pure.

`baseline` keeps pods from what breaks out of them, `restricted` asks for hardening besides. The newest version of
each level is checked, whichever a label names. Source: the Kubernetes documentation, "Pod Security Standards", and
the texts of kube-apiserver 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from kajitori.laptop.apiserver.admission.pod_security_checks import BASELINE, RESTRICTED, containers_of, many

Object = dict[str, Any]
PREFIX: Final = "pod-security.kubernetes.io/"
LEVELS: Final = ("privileged", "baseline", "restricted")


class Standard(NamedTuple):
    """A level with its version, such as `restricted:latest`."""

    level: str
    version: str = "latest"

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"


def standard_of(labels: dict[str, str], mode: str) -> Standard:
    """What a mode (`enforce`, `warn`, `audit`) asks; a level that does not exist asks for the strictest."""
    level = labels.get(PREFIX + mode)
    if level is None:
        return Standard("privileged")
    return Standard(
        level if level in LEVELS else "restricted", labels.get(f"{PREFIX}{mode}-version") or "latest"
    )


def violations(standard: Standard, metadata: Object, spec: Object) -> str:
    """All that a pod does against a level, as one text; empty if it is fine."""
    return ", ".join(f"{reason} ({detail})" for reason, detail in _findings(standard, metadata, spec))


def _findings(standard: Standard, metadata: Object, spec: Object) -> list[tuple[str, str]]:
    if standard.level == "privileged":
        return []
    checks = BASELINE if standard.level == "baseline" else RESTRICTED
    return [finding for check in checks if (finding := check(metadata, spec)) is not None]


def existing_violations(namespace: str, standard: Standard, pods: Iterable[Object]) -> list[str]:
    """Warnings for who makes a namespace stricter than pods in it are: one a kind of violation."""
    breaking: dict[str, list[str]] = {}
    for pod in pods:
        found = _findings(standard, pod["metadata"], pod.get("spec") or {})
        if found:
            reasons = ", ".join(reason for reason, _ in found)
            breaking.setdefault(reasons, []).append(pod["metadata"]["name"])
    if not breaking:
        return []
    lines: list[str] = []
    for reasons, names in breaking.items():
        others = len(names) - 1
        more = f" (and {others} other {many('pod', others)})" if others else ""
        lines.append(f"{names[0]}{more}: {reasons}")
    head = f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{standard}"'
    return [head, *sorted(lines)]


def is_significant(new: Object, old: Object) -> bool:
    """Whether a change of a pod is one that its level has to look at: containers, or their images."""

    def images(pod: Object) -> list[tuple[str, Any]]:
        return [(c.get("name", ""), c.get("image")) for c in containers_of(pod.get("spec") or {})]

    return images(new) != images(old)


def label_problems(labels: dict[str, str]) -> list[tuple[str, str]]:
    """Labels of a namespace that name no level or version: the label and what is wrong with it."""
    problems: list[tuple[str, str]] = []
    for mode in ("enforce", "audit", "warn"):
        level = labels.get(PREFIX + mode)
        if level is not None and level not in LEVELS:
            problems.append((PREFIX + mode, "must be one of privileged, baseline, restricted"))
        key = f"{PREFIX}{mode}-version"
        version = labels.get(key)
        if version is not None and version != "latest" and not _is_version(version):
            problems.append((key, 'must be "latest" or "v1.x"'))
    return problems


def _is_version(text: str) -> bool:
    return text.startswith("v1.") and text[3:].isdigit() and str(int(text[3:])) == text[3:]
