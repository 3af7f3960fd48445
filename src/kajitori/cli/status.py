"""What runs, where, and how well: processes, nodes, pods, gateway, models.

kaji status                kaji status -o json
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from kajitori.api.resource import CONFIG_MAPS, GATEWAYS, NODES, PODS
from kajitori.base.duration import format_age
from kajitori.base.errors import KajitoriError, Unreachable, UsageError
from kajitori.cli.connection import Cluster, cluster_arguments, local_home, open_cluster
from kajitori.cli.local import ask_supervisor
from kajitori.cli.output import paint, print_rows


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    cluster_arguments(parser)


def run(options: argparse.Namespace) -> int:
    home = local_home(options)
    own = home / "kubeconfig"
    local = None if options.kubeconfig else ask_supervisor(home, "status")
    if local is None and not options.kubeconfig and os.environ.get("KUBECONFIG", "") in ("", str(own)):
        exists = (home / "cluster.json").exists()
        raise Unreachable(
            f"the cluster in {home} is stopped" if exists else f"no cluster in {home}",
            hint="`kaji up` starts it",
        )
    report: dict[str, Any] = {}
    if local is not None:
        report["home"] = str(home)
        report["processes"] = [_measured(process) for process in local["processes"]]
    try:
        report |= _cluster_report(open_cluster(options))
    except (Unreachable, UsageError) as error:
        report["error"] = str(error)
    if options.output == "json":
        print(json.dumps(report, indent=2))
    else:
        _print(report)
    healthy = "error" not in report and all(process["pid"] for process in report.get("processes") or ())
    return 0 if healthy else 1


def _measured(process: dict[str, Any]) -> dict[str, Any]:
    """With resident memory and CPU seconds, read from /proc."""
    pid = process["pid"]
    memory, cpu = 0, 0.0
    if pid:
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            memory = pages * os.sysconf("SC_PAGE_SIZE")
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            pid = None
    return {**process, "pid": pid, "residentBytes": memory, "cpuSeconds": cpu}


def _cluster_report(cluster: Cluster) -> dict[str, Any]:
    pods = cluster.objects(PODS, None)
    report: dict[str, Any] = {
        "server": cluster.client.config.server,
        "nodes": [_node(node, pods) for node in cluster.objects(NODES, None)],
        "pods": _pods(pods),
    }
    try:
        report["gateways"] = [_gateway(gateway) for gateway in cluster.objects(GATEWAYS, None)]
        report["models"] = cluster.model_names()
    except KajitoriError:  # a cluster without our definitions
        report["gateways"], report["models"] = [], []
    report["capabilities"] = _capabilities(cluster)
    return report


def _capabilities(cluster: Cluster) -> list[dict[str, Any]]:
    """What an installation does and leaves to other controllers, as its processes say; empty on a laptop."""
    try:
        maps = cluster.objects(CONFIG_MAPS, None, labelSelector="app.kubernetes.io/part-of=kajitori")
    except KajitoriError:
        return []
    found: list[dict[str, Any]] = []
    for each in maps:
        found += json.loads((each.get("data") or {}).get("capabilities", "[]"))
    return found


def _node(node: dict[str, Any], pods: list[dict[str, Any]]) -> dict[str, Any]:
    name = node["metadata"]["name"]
    conditions = node["status"].get("conditions") or ()
    gpus = int((node["status"].get("allocatable") or {}).get("nvidia.com/gpu", 0))
    here = [pod for pod in pods if pod["spec"].get("nodeName") == name and _active(pod)]
    return {
        "name": name,
        "ready": any(each["type"] == "Ready" and each["status"] == "True" for each in conditions),
        "pods": len(here),
        "gpus": gpus,
        "gpusUsed": sum(_gpus(pod) for pod in here),
        "gpu": node["metadata"].get("labels", {}).get("nvidia.com/gpu.product", ""),
        "simulated": node["metadata"].get("labels", {}).get("kajitori.dev/simulated-gpu") == "true",
    }


def _active(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def _gpus(pod: dict[str, Any]) -> int:
    total = 0
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        amounts = resources.get("limits") or resources.get("requests") or {}
        total += int(amounts.get("nvidia.com/gpu", 0))
    return total


def _pods(pods: list[dict[str, Any]]) -> dict[str, int]:
    count: dict[str, int] = {}
    for pod in pods:
        conditions = pod["status"].get("conditions") or ()
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
        phase = "Ready" if ready else pod["status"].get("phase", "Pending")
        count[phase] = count.get(phase, 0) + 1
    return count


def _gateway(gateway: dict[str, Any]) -> dict[str, Any]:
    status = gateway.get("status") or {}
    programmed = [each for each in status.get("conditions") or () if each["type"] == "Programmed"]
    addresses = [each["value"] for each in status.get("addresses") or ()]
    return {
        "name": f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}",
        "programmed": bool(programmed) and programmed[0]["status"] == "True",
        "message": programmed[0].get("message", "").strip() if programmed else "",
        "urls": [
            f"http://{address}:{each['port']}"
            for address in addresses
            for each in gateway["spec"]["listeners"]
        ],
    }


def _print(report: dict[str, Any]) -> None:
    if "processes" in report:
        rows = [
            [
                process["name"],
                str(process["pid"] or paint("down", "31")),
                format_age(process["seconds"]) if process["pid"] else "-",
                str(process["restarts"]),
                f"{process['residentBytes'] / 2**20:.0f} MiB",
                f"{process['cpuSeconds']:.1f} s",
            ]
            for process in report["processes"]
        ]
        print_rows(["PROCESS", "PID", "AGE", "RESTARTS", "MEMORY", "CPU"], rows)
        print()
    if "error" in report:
        print(paint(f"The cluster cannot be asked: {report['error']}", "31"))
        return
    print(f"cluster   {report['server']}")
    for node in report["nodes"]:
        gpus = f", {node['gpusUsed']} of {node['gpus']} {node['gpu']} in use" if node["gpus"] else ""
        simulated = " (simulated)" if node["simulated"] else ""
        print(
            f"node      {node['name']}  {'ready' if node['ready'] else 'NOT READY'}, {node['pods']} pod{'' if node['pods'] == 1 else 's'}{gpus}{simulated}"
        )
    counts = ", ".join(f"{number} {phase.lower()}" for phase, number in sorted(report["pods"].items()))
    print(f"pods      {counts or 'none'}")
    for gateway in report["gateways"]:
        state = "programmed" if gateway["programmed"] else f"NOT PROGRAMMED {gateway['message']}"
        print(f"gateway   {gateway['name']}  {' '.join(gateway['urls'])}  {state}")
    for capability in report["capabilities"]:
        state = "on" if capability["acts"] else f"{paint('off', '33')}: {capability['because']}"
        print(f"serves    {', '.join(capability['kinds'])}  {state}")
    print(f"models    {', '.join(report['models']) or 'none'}")
