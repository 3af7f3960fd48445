"""CustomResourceDefinitions on a cluster: which are made, which are brought up to date, which stay as they are.

A definition that is not ours, that somebody else manages too, or that a newer Kajitori left, is never overwritten: objects
and controllers of others may depend on it. It is named instead, with what that means. Pure.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from kajitori import __version__
from kajitori.api.crds import all_crds

BUNDLE_ANNOTATION = "kajitori.dev/bundle-version"
PART_OF_LABEL = "app.kubernetes.io/part-of"
# Who may have written a definition of ours: our commands, and Helm by our chart.
OUR_MANAGERS = frozenset({"kaji-install", "kaji-up", "helm"})
# Annotations in which projects name the release that a definition is of.
_FOREIGN_VERSIONS = (
    "gateway.networking.k8s.io/bundle-version",
    "controller-gen.kubebuilder.io/version",
)
Action = Literal["create", "update", "keep"]


class Decision(msgspec.Struct, frozen=True):
    """What becomes of one definition.

    because: why it is kept. missing: versions that ours reads and the kept one does not serve.
    """

    name: str
    kind: str
    action: Action
    body: dict[str, Any]
    because: str = ""
    missing: tuple[str, ...] = ()


def bundled_definitions() -> list[dict[str, Any]]:
    """Ours, each with the version that it is of."""
    found = all_crds()
    for definition in found:
        annotations = definition["metadata"].setdefault("annotations", {})
        annotations[BUNDLE_ANNOTATION] = __version__
    return found


def decide(ours: dict[str, Any], there: Mapping[str, Any] | None) -> Decision:
    """What to do with one of ours. there: the one of its name in the cluster, if any."""
    name, kind = ours["metadata"]["name"], ours["spec"]["names"]["kind"]
    if there is None:
        return Decision(name, kind, "create", ours)
    because = _why_not_ours(there) or _why_newer(there)
    if not because:
        return Decision(name, kind, "update", ours)
    served = {version["name"] for version in there["spec"]["versions"] if version.get("served")}
    wanted = {version["name"] for version in ours["spec"]["versions"] if version["storage"]}
    return Decision(name, kind, "keep", ours, because, tuple(sorted(wanted - served)))


def is_ours(definition: Mapping[str, Any]) -> bool:
    """Whether Kajitori made it and nobody else has a say in it."""
    return not _why_not_ours(definition)


def _why_not_ours(there: Mapping[str, Any]) -> str:
    metadata = there["metadata"]
    labels: Mapping[str, str] = metadata.get("labels") or {}
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    managers = sorted(
        {
            str(entry.get("manager"))
            for entry in metadata.get("managedFields") or ()
            if not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or {})
        }
    )
    if labels.get(PART_OF_LABEL) != "kajitori":
        version = next((annotations[key] for key in _FOREIGN_VERSIONS if key in annotations), "")
        by = f" (of {version})" if version else ""
        return f"it is not Kajitori's{by}; managed by {', '.join(managers) or 'somebody else'}"
    others = [manager for manager in managers if manager not in OUR_MANAGERS]
    if others:
        return f"it is managed by {', '.join(others)} too"
    return ""


def _why_newer(there: Mapping[str, Any]) -> str:
    version = (there["metadata"].get("annotations") or {}).get(BUNDLE_ANNOTATION, "")
    if version and is_newer(version, __version__):
        return f"it is of the newer Kajitori {version}"
    return ""


def is_newer(one: str, other: str) -> bool:
    """Whether version `one` comes after `other`: numbers first, then a release after its candidates."""
    return _order(one) > _order(other)


def _order(version: str) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    match = re.match(r"v?(\d+(?:\.\d+)*)(.*)", version)
    if match is None:
        return (), 0, ()
    numbers = tuple(int(number) for number in match[1].split("."))
    rest = match[2].partition("+")[0]
    return (
        numbers + (0,) * (4 - len(numbers)),
        0 if rest else 1,
        tuple(int(number) for number in re.findall(r"\d+", rest)),
    )


def stored_elsewhere(definition: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """The version in which objects shall be stored, and others in which some may be still."""
    storage = next(version["name"] for version in definition["spec"]["versions"] if version["storage"])
    stored = (definition.get("status") or {}).get("storedVersions") or [storage]
    return storage, [version for version in stored if version != storage]


def storage_version_hash(group: str, version: str, kind: str) -> str:
    """What discovery says of a resource that is stored so (`StorageVersionHash` of k8s.io/apiserver)."""
    return base64.b64encode(hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()[:8]).decode()
