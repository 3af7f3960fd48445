"""The checks of the Pod Security Standards, one a rule: what a pod does against it, in the words of kube-apiserver 1.36. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

Object = dict[str, Any]
_SECCOMP: Final = ("RuntimeDefault", "Localhost")
_APPARMOR_ANNOTATION: Final = "container.apparmor.security.beta.kubernetes.io/"
_SELINUX_TYPES: Final = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_CAPABILITIES: Final = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
_VOLUMES: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)

Finding = tuple[str, str] | None
"""Reason and detail."""


def containers_of(spec: Object) -> Iterator[Object]:
    """All of them, of whatever sort."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _context(holder: Object) -> Object:
    return holder.get("securityContext") or {}


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


def _named(names: list[str], one: str = "container") -> str:
    return f"{one if len(names) == 1 else one + 's'} {_quoted(names)}"


def _uses(names: list[str], one: str = "container") -> str:
    return f"{_named(names, one)} {'uses' if len(names) == 1 else 'use'}"


def many(word: str, count: int) -> str:
    """The word for so many."""
    return word if count == 1 else f"{word}s"


def _setters(pod: bool, containers: list[str]) -> str:
    parts = ["pod"] if pod else []
    if containers:
        parts.append(_named(containers))
    return " and ".join(parts)


def _with(spec: Object, holds: Callable[[Object], bool]) -> list[str]:
    return [c.get("name", "") for c in containers_of(spec) if holds(c)]


def _is_windows(spec: Object) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _has_own_users(spec: Object) -> bool:
    return spec.get("hostUsers") is False


# --- baseline


def _apparmor(metadata: Object, spec: Object) -> Finding:
    def bad(holder: Object) -> str:
        profile = _context(holder).get("appArmorProfile")
        kind = (profile or {}).get("type", "")
        return "" if profile is None or kind in _SECCOMP else kind

    values = {kind for holder in (spec, *containers_of(spec)) if (kind := bad(holder))}
    setters = [text] if (text := _setters(bool(bad(spec)), _with(spec, lambda c: bool(bad(c))))) else []
    annotations = sorted(
        f"{key}={msgspec.json.encode(value).decode()}"
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APPARMOR_ANNOTATION)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    listed = [*sorted(values), *annotations]
    if annotations:
        setters.append(many("annotation", len(annotations)))
    if not setters:
        return None
    reason = many("forbidden AppArmor profile", len(listed))
    return reason, f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(listed)}"


def _added(container: Object) -> list[str]:
    return (_context(container).get("capabilities") or {}).get("add") or []


def _capabilities(_metadata: Object, spec: Object) -> Finding:
    bad = _with(spec, lambda c: any(name not in _CAPABILITIES for name in _added(c)))
    names = sorted({n for c in containers_of(spec) for n in _added(c) if n not in _CAPABILITIES})
    if not bad:
        return None
    text = f"{_named(bad)} must not include {_quoted(names)} in securityContext.capabilities.add"
    return "non-default capabilities", text


def _host_namespaces(_metadata: Object, spec: Object) -> Finding:
    shared = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return ("host namespaces", ", ".join(shared)) if shared else None


def _host_paths(_metadata: Object, spec: Object) -> Finding:
    names = [v.get("name", "") for v in spec.get("volumes") or () if v.get("hostPath") is not None]
    return ("hostPath volumes", _named(names, "volume")) if names else None


def _host_ports(_metadata: Object, spec: Object) -> Finding:
    def ports(container: Object) -> list[int]:
        return [port["hostPort"] for port in container.get("ports") or () if port.get("hostPort")]

    bad = _with(spec, lambda c: bool(ports(c)))
    if not bad:
        return None
    used = sorted({str(port) for container in containers_of(spec) for port in ports(container)})
    return "hostPort", f"{_uses(bad)} {many('hostPort', len(used))} {', '.join(used)}"


def _probed_hosts(container: Object) -> set[str]:
    lifecycle: Object = container.get("lifecycle") or {}
    handlers = [container.get(f"{name}Probe") for name in ("liveness", "readiness", "startup")]
    handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
    return {
        host
        for handler in handlers
        for action in ("httpGet", "tcpSocket")
        if (host := ((handler or {}).get(action) or {}).get("host")) and host not in ("127.0.0.1", "::1")
    }


def _probe_hosts(_metadata: Object, spec: Object) -> Finding:
    bad = sorted(_with(spec, lambda c: bool(_probed_hosts(c))))
    if not bad:
        return None
    hosts = sorted({host for container in containers_of(spec) for host in _probed_hosts(container)})
    word = many("probe or lifecycle host", len(hosts))
    return "probe or lifecycle host", f"{_uses(bad)} {word} {_quoted(hosts)}"


def _privileged(_metadata: Object, spec: Object) -> Finding:
    bad = _with(spec, lambda c: _context(c).get("privileged") is True)
    return ("privileged", f"{_named(bad)} must not set securityContext.privileged=true") if bad else None


def _proc_mount(_metadata: Object, spec: Object) -> Finding:
    return None if _has_own_users(spec) else _proc_mount_restricted(_metadata, spec)


def _proc_mount_restricted(_metadata: Object, spec: Object) -> Finding:
    bad = _with(spec, lambda c: _context(c).get("procMount") not in (None, "Default"))
    if not bad:
        return None
    values = sorted(
        {
            str(value)
            for c in containers_of(spec)
            if (value := _context(c).get("procMount")) not in (None, "Default")
        }
    )
    return "procMount", f"{_named(bad)} must not set securityContext.procMount to {_quoted(values)}"


def _selinux(_metadata: Object, spec: Object) -> Finding:
    def bad(holder: Object) -> bool:
        options: Object = _context(holder).get("seLinuxOptions") or {}
        return (
            options.get("type", "") not in _SELINUX_TYPES
            or bool(options.get("user"))
            or bool(options.get("role"))
        )

    setters = _setters(bad(spec), _with(spec, bad))
    if not setters:
        return None
    options = [_context(holder).get("seLinuxOptions") or {} for holder in (spec, *containers_of(spec))]
    types = sorted({o["type"] for o in options if o.get("type", "") not in _SELINUX_TYPES})
    problems = [f"{many('type', len(types))} {_quoted(types)}"] if types else []
    problems += [f"{key} may not be set" for key in ("user", "role") if any(o.get(key) for o in options)]
    return (
        "seLinuxOptions",
        f"{setters} set forbidden securityContext.seLinuxOptions: {'; '.join(problems)}",
    )


def _seccomp_type(holder: Object) -> str | None:
    profile = _context(holder).get("seccompProfile")
    return None if profile is None else profile.get("type", "")


def _seccomp(_metadata: Object, spec: Object) -> Finding:
    def bad(holder: Object) -> bool:
        kind = _seccomp_type(holder)
        return kind is not None and kind not in _SECCOMP

    setters = _setters(bad(spec), _with(spec, bad))
    if not setters:
        return None
    values = sorted({str(_seccomp_type(h)) for h in (spec, *containers_of(spec)) if bad(h)})
    return (
        "seccompProfile",
        f"{setters} must not set securityContext.seccompProfile.type to {_quoted(values)}",
    )


def _sysctls(_metadata: Object, spec: Object) -> Finding:
    bad = [
        entry.get("name", "")
        for entry in _context(spec).get("sysctls") or ()
        if entry.get("name") not in _SYSCTLS
    ]
    return ("forbidden sysctls", ", ".join(bad)) if bad else None


def _host_process(_metadata: Object, spec: Object) -> Finding:
    def bad(holder: Object) -> bool:
        return (_context(holder).get("windowsOptions") or {}).get("hostProcess") is True

    setters = _setters(bad(spec), _with(spec, bad))
    if not setters:
        return None
    return "hostProcess", f"{setters} must not set securityContext.windowsOptions.hostProcess=true"


# --- restricted


def _privilege_escalation(_metadata: Object, spec: Object) -> Finding:
    bad = _with(spec, lambda c: _context(c).get("allowPrivilegeEscalation") is not False)
    if not bad or _is_windows(spec):
        return None
    text = f"{_named(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", text


def _capabilities_restricted(_metadata: Object, spec: Object) -> Finding:
    if _is_windows(spec):
        return None

    def dropped(container: Object) -> list[str]:
        return (_context(container).get("capabilities") or {}).get("drop") or []

    lacking = _with(spec, lambda c: "ALL" not in dropped(c))
    adding = _with(spec, lambda c: any(name != "NET_BIND_SERVICE" for name in _added(c)))
    problems: list[str] = []
    if lacking:
        problems.append(f'{_named(lacking)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        names = sorted({n for c in containers_of(spec) for n in _added(c) if n != "NET_BIND_SERVICE"})
        problems.append(
            f"{_named(adding)} must not include {_quoted(names)} in securityContext.capabilities.add"
        )
    return ("unrestricted capabilities", "; ".join(problems)) if problems else None


def _volume_types(_metadata: Object, spec: Object) -> Finding:
    names: list[str] = []
    kinds: set[str] = set()
    for volume in spec.get("volumes") or ():
        given = [key for key in volume if key != "name"]
        if not any(key in _VOLUMES for key in given):
            names.append(volume.get("name", ""))
            kinds.add(given[0] if given else "unknown")
    if not names:
        return None
    word = many("restricted volume type", len(kinds))
    return "restricted volume types", f"{_uses(names, 'volume')} {word} {_quoted(sorted(kinds))}"


def _non_root(_metadata: Object, spec: Object) -> Finding:
    if _has_own_users(spec):
        return None
    whole = _context(spec).get("runAsNonRoot")
    setters = _setters(whole is False, _with(spec, lambda c: _context(c).get("runAsNonRoot") is False))
    if setters:
        return "runAsNonRoot != true", f"{setters} must not set securityContext.runAsNonRoot=false"
    unset = [] if whole else _with(spec, lambda c: _context(c).get("runAsNonRoot") is None)
    if not unset:
        return None
    return "runAsNonRoot != true", f"pod or {_named(unset)} must set securityContext.runAsNonRoot=true"


def _root_user(_metadata: Object, spec: Object) -> Finding:
    if _has_own_users(spec):
        return None

    def bad(holder: Object) -> bool:
        return _context(holder).get("runAsUser") == 0

    setters = _setters(bad(spec), _with(spec, bad))
    return ("runAsUser=0", f"{setters} must not set runAsUser=0") if setters else None


def _seccomp_restricted(metadata: Object, spec: Object) -> Finding:
    if _is_windows(spec):
        return None
    found = _seccomp(metadata, spec)
    if found is not None:
        return found
    unset = [] if _seccomp_type(spec) else _with(spec, lambda c: _seccomp_type(c) is None)
    if not unset:
        return None
    text = f'pod or {_named(unset)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", text


# In the order of a real server, by the names that it gives them; a restricted check takes its baseline one's place.
BASELINE: Final = (
    _apparmor,
    _capabilities,
    _host_namespaces,
    _host_paths,
    _host_ports,
    _probe_hosts,
    _privileged,
    _proc_mount,
    _selinux,
    _seccomp,
    _sysctls,
    _host_process,
)
_REPLACED: Final = (_capabilities, _host_paths, _proc_mount, _seccomp)
RESTRICTED: Final = (
    *(check for check in BASELINE if check not in _REPLACED),
    _privilege_escalation,
    _capabilities_restricted,
    _proc_mount_restricted,
    _volume_types,
    _non_root,
    _root_user,
    _seccomp_restricted,
)
