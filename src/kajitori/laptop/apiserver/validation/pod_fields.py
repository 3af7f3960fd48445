"""Fields of pod specs that a rule of their own is enough for; see `single_fields`.

Nothing on a laptop acts on most of them, but a manifest that a real server refuses shall not pass here.
"""

from __future__ import annotations

import re

from kajitori.laptop.apiserver.status import invalid_value
from kajitori.laptop.apiserver.validation.names import Messages, dns_label, dns_subdomain
from kajitori.laptop.apiserver.validation.single_fields import (
    ADDRESS,
    Rule,
    Rules,
    above,
    form,
    needed,
    one_of,
    positive,
    unnumbered,
    within,
)
from kajitori.laptop.apiserver.validation.storage import claim_spec_errors

_ID = within(0, 2**31 - 1)
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_TEXT = f"must have at most 253 characters and match regex ^{_SYSCTL.replace('[./]', '[./]')}$"
_MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_RESOURCES = tuple(
    f"{which}.{name}" for which in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory")
)


def _sysctl(name: str) -> Messages:
    return () if len(name) <= 253 and re.fullmatch(_SYSCTL, name) else (_SYSCTL_TEXT,)


def _without_item(path: str) -> str:
    return re.sub(r"\.items\[\d+\]", "", path)


def _absolute(path: str) -> Messages:
    return () if path.startswith("/") else ("must be an absolute path",)


_MODE = Rule(lambda value, path: [] if 0 <= value <= 0o777 else [invalid_value(path, value, _MODE_TEXT)])
_SECCOMP = needed(
    one_of("Localhost", "RuntimeDefault", "Unconfined"), "type is required when seccompProfile is set"
)
_RESOURCE = needed(one_of(*_RESOURCES))

_CONTAINER = {
    "volumeMounts[].mountPropagation": one_of("Bidirectional", "HostToContainer", "None", at=unnumbered),
    "volumeMounts[].recursiveReadOnly": one_of("Disabled", "Enabled", "IfPossible", at=unnumbered),
    "volumeDevices[].name": needed(),
    "volumeDevices[].devicePath": needed(),
    "securityContext.procMount": one_of("Default", "Unmasked"),
    "securityContext.runAsUser": _ID,
    "securityContext.runAsGroup": _ID,
    "securityContext.seccompProfile.type": _SECCOMP,
    "env[].valueFrom.resourceFieldRef.resource": one_of(*_RESOURCES),
    "resizePolicy[].resourceName": needed(
        one_of("cpu", "memory", at=lambda path: unnumbered(above(path) + ".x").removesuffix(".x")),
        at=lambda path: unnumbered(above(path) + ".x").removesuffix(".x"),
    ),
    "resizePolicy[].restartPolicy": needed(
        one_of(
            "NotRequired",
            "RestartContainer",
            at=lambda path: unnumbered(above(path) + ".x").removesuffix(".x"),
        ),
        at=lambda path: unnumbered(above(path) + ".x").removesuffix(".x"),
    ),
}

_ITEMS = ("configMap", "secret", "downwardAPI", "projected.sources[].configMap", "projected.sources[].secret")

POD_FIELDS = Rules(
    {
        "os.name": needed(one_of("linux", "windows", at=above)),
        "dnsConfig.nameservers[]": ADDRESS,
        "dnsConfig.searches[]": form(lambda name: dns_subdomain(name.removesuffix(".").replace("_", "-"))),
        "dnsConfig.options[].name": needed(text="must not be empty", at=above),
        "topologySpreadConstraints[].nodeAffinityPolicy": one_of("Honor", "Ignore"),
        "topologySpreadConstraints[].nodeTaintsPolicy": one_of("Honor", "Ignore"),
        "topologySpreadConstraints[].minDomains": positive("must be greater than zero"),
        "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[].namespaces[]": form(dns_label),
        "securityContext.fsGroupChangePolicy": one_of("Always", "OnRootMismatch"),
        "securityContext.supplementalGroupsPolicy": one_of("Merge", "Strict"),
        "securityContext.supplementalGroups[]": _ID,
        "securityContext.runAsUser": _ID,
        "securityContext.runAsGroup": _ID,
        "securityContext.fsGroup": _ID,
        "securityContext.seccompProfile.type": _SECCOMP,
        "securityContext.sysctls[].name": needed(form(_sysctl)),
        **{
            f"{sort}[].{path}": rule
            for sort in ("containers", "initContainers")
            for path, rule in _CONTAINER.items()
        },
        **{f"volumes[].{source}.defaultMode": _MODE for source in _ITEMS[:3]},
        **{f"volumes[].{source}.items[].mode": _MODE for source in _ITEMS},
        "volumes[].downwardAPI.items[].resourceFieldRef.containerName": needed(at=_without_item),
        "volumes[].downwardAPI.items[].resourceFieldRef.resource": needed(
            one_of(*_RESOURCES, at=_without_item), at=_without_item
        ),
        "volumes[].nfs.server": needed(),
        "volumes[].nfs.path": needed(form(_absolute)),
        "volumes[].csi.driver": needed(),
        "volumes[].image.reference": needed(),
        "volumes[].ephemeral.volumeClaimTemplate": needed(),
        "volumes[].ephemeral.volumeClaimTemplate.spec": Rule(claim_spec_errors),
    }
)
