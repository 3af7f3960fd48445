"""Run the Gateway API's conformance suite against the gateway: `make gateway-conformance`.

The suite is built from its published Go module. It talks to the embedded API server (`SERVER=kubernetes`: to a real
one with etcd and its controllers), the gateway's controller and a real Envoy; processes of its echo server stand in
for the pods that its manifests ask for, so what it reads from pods themselves (their logs, their addresses) cannot be
tried. Ports 80, 443, 8080 and 8443 of 127.0.0.1 must be free.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from tests.gateway.workbench import CLASS, free_port, running_workbench
from tests.waiting import eventually
from tools.kubernetes.build import cache_folder
from tools.kubernetes.control_plane import CONTROLLERS, running_control_plane

from kajitori.api.crds import all_crds
from kajitori.api.resource import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    GATEWAY_CLASSES,
    GATEWAYS,
    SECRETS,
    SERVICES,
    Resource,
)
from kajitori.base.errors import NotFound
from kajitori.control.runtime import Runtime
from kajitori.gateway.controller import GatewayController
from kajitori.gateway.observed import Settings
from kajitori.gateway.routes.features import SUPPORTED_FEATURES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server

VERSION = "v1.5.0"
MODULE = "sigs.k8s.io/gateway-api"
NAMESPACES = "gateway-conformance"
# They read the logs of pods, or make endpoints of pods' addresses.
OF_PODS = (
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteServiceTypes",
)
# Gateways are merged: these ask clients for certificates on a port that a Gateway of the suite has without.
ALONE = (
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayFrontendInvalidDefaultClientCertificateValidation",
    "GatewayInvalidFrontendClientCertificateValidation",
)
IN_THE_WAY = "same-namespace-with-https-listener"
LOG = "last-run.log"
SERVERS = ("embedded", "kubernetes")
# Without nodes its pods would wait for ever, and the suite for them.
NO_PODS = "--controllers=*,-deployment-controller"


def build() -> Path:
    """The folder with the suite and its echo server."""
    folder = cache_folder().parent / "gateway-conformance" / VERSION
    if (folder / "echo").exists():
        return folder
    source = folder / "source"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module download\n")
    for module in (MODULE, f"{MODULE}/conformance"):
        subprocess.run(["go", "mod", "download", f"{module}@{VERSION}"], cwd=folder, check=True)
    modules = Path(subprocess.check_output(["go", "env", "GOMODCACHE"], text=True).strip())
    shutil.copytree(modules / MODULE / f"conformance@{VERSION}", source, copy_function=shutil.copyfile)
    subprocess.run(["chmod", "-R", "u+w", str(source)], check=True)
    replace = f"-replace={MODULE}={modules / MODULE}@{VERSION}"
    subprocess.run(["go", "mod", "edit", replace], cwd=source, check=True)
    subprocess.run(["go", "mod", "tidy"], cwd=source, check=True)
    subprocess.run(["go", "test", "-c", "-o", str(folder / "suite"), "."], cwd=source, check=True)
    subprocess.run(["go", "build", "-o", str(folder / "echo"), "./echo-basic"], cwd=source, check=True)
    return folder


class Pods:
    """Stand-ins for the pods of the suite's Deployments: a process of the echo server each."""

    def __init__(self, client: Client, echo: Path, folder: Path, address: str) -> None:
        self._client = client
        self._echo = echo
        self._folder = folder
        self._address = address
        # Namespace and name -> process, its ports by the pod's, labels of the pod.
        self._running: dict[tuple[str, str], tuple[subprocess.Popen[bytes], dict[int, int], Any]] = {}
        self.without: str = ""

    async def follow(self) -> None:
        """Starts what is asked for and tells of its endpoints, for ever."""
        while True:
            if self.without:
                with contextlib.suppress(NotFound):
                    await self._client.delete(GATEWAYS, self.without, f"{NAMESPACES}-infra")
            for deployment in await self._ours(DEPLOYMENTS):
                await self._start(deployment)
            for service in await self._ours(SERVICES):
                await self._point(service)
            await asyncio.sleep(0.5)

    def close(self) -> None:
        for process, _, _ in self._running.values():
            process.kill()

    async def _ours(self, resource: Resource) -> list[dict[str, Any]]:
        listed: Any = await self._client.list(resource)
        return [item for item in listed.items if item["metadata"]["namespace"].startswith(NAMESPACES)]

    async def _start(self, deployment: dict[str, Any]) -> None:
        namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
        template = deployment["spec"]["template"]
        container = template["spec"]["containers"][0]
        # The one for TCP takes ports that Gateways want, and no test of ours asks it.
        of_http = "echo-basic" in container["image"] and "TCP_ECHO_SERVER" not in str(container.get("env"))
        if (namespace, name) in self._running or not of_http:
            return
        try:
            folders = [
                await self._mount(namespace, name, item, template)
                for item in container.get("volumeMounts", ())
            ]
        except NotFound:
            return
        ports = {3000: free_port(), 3001: free_port(), 8443: free_port()}
        variables = {
            **os.environ,
            "POD_NAME": f"{name}-0-0",
            "NAMESPACE": namespace,
            "HTTP_PORT": str(ports[3000]),
            "H2C_PORT": str(ports[3001]),
            "HTTPS_PORT": str(ports[8443]),
        }
        for variable in container.get("env", ()):
            value = variable.get("value", variables.get(variable["name"], ""))
            for mounted, folder in folders:
                value = value.replace(mounted, folder)
            variables[variable["name"]] = value
        process = subprocess.Popen(
            [self._echo], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._running[namespace, name] = process, ports, template["metadata"]["labels"]

    async def _mount(
        self, namespace: str, name: str, mount: dict[str, Any], template: dict[str, Any]
    ) -> tuple[str, str]:
        volume = next(item for item in template["spec"]["volumes"] if item["name"] == mount["name"])
        folder = self._folder / f"{namespace}-{name}-{mount['name']}"
        folder.mkdir(exist_ok=True)
        sources = volume.get("projected", {}).get("sources", [{"secret": volume.get("secret")}])
        for source in sources:
            wanted = source.get("secret")
            if wanted is None:
                continue
            secret: Any = await self._client.get(
                SECRETS, wanted.get("secretName") or wanted["name"], namespace
            )
            for item in wanted.get("items") or [{"key": key, "path": key} for key in secret["data"]]:
                (folder / item["path"]).write_bytes(base64.b64decode(secret["data"][item["key"]]))
        return mount["mountPath"], str(folder)

    async def _point(self, service: dict[str, Any]) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        selector = service["spec"].get("selector")
        for (where, _), (_, ports, labels) in self._running.items():
            if where != namespace or not selector or not selector.items() <= labels.items():
                continue
            named = [
                {"name": port.get("name", ""), "port": ports[target], "protocol": "TCP"}
                for port in service["spec"]["ports"]
                if (target := int(port.get("targetPort", port["port"]))) in ports
            ]
            labels = {"kubernetes.io/service-name": name}
            await self._client.apply(
                ENDPOINT_SLICES,
                {
                    "apiVersion": ENDPOINT_SLICES.api_version,
                    "kind": ENDPOINT_SLICES.kind,
                    "metadata": {"name": f"{name}-stand-in", "namespace": namespace, "labels": labels},
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": [self._address], "conditions": {"ready": True}}],
                    "ports": named,
                },
                field_manager="pods",
            )


async def judge(programs: Path, kubeconfig: Path, *more: str) -> dict[str, str]:
    """Runs the suite: test -> PASS or FAIL. more: its flags."""
    process = await asyncio.create_subprocess_exec(
        str(programs / "suite"),
        "-test.v",
        "-test.run=TestConformance",
        "-test.timeout=30m",
        "-gateway-class=kajitori",
        "-allow-crds-mismatch=true",
        "-cleanup-base-resources=false",
        "-conformance-profiles=GATEWAY-HTTP,GATEWAY-GRPC",
        f"-supported-features={','.join(SUPPORTED_FEATURES)}",
        *more,
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        cwd=programs / "source",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    with (programs / LOG).open("ab") as log:
        log.write(output)
    found = re.findall(r"^    --- (PASS|FAIL): TestConformance/(\w+)", output.decode(), re.MULTILINE)
    return {name: result for result, name in found}


@contextlib.asynccontextmanager
async def running_server(kind: str) -> AsyncGenerator[tuple[Path, str]]:
    """The kubeconfig of an administrator, and the address at which endpoints of this machine are.

    kind: one of SERVERS. A real API server takes no loopback address for an endpoint.
    """
    if kind == "kubernetes":
        with running_control_plane(flags={CONTROLLERS: [NO_PODS]}) as plane:
            yield plane.kubeconfig, own_address()
        return
    async with running_api_server() as server:
        yield server.kubeconfig, "127.0.0.1"


def own_address() -> str:
    """This machine's address towards others; asks nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return probe.getsockname()[0]


async def define(client: Client) -> None:
    """Waits until the kinds are served."""
    names = [definition["metadata"]["name"] for definition in all_crds()]
    for definition in all_crds():
        await client.apply(CUSTOM_RESOURCE_DEFINITIONS, definition, field_manager="conformance")

    async def served(name: str) -> bool:
        found: Any = await client.get(CUSTOM_RESOURCE_DEFINITIONS, name)
        conditions = found.get("status", {}).get("conditions", ())
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    for name in names:
        await eventually(lambda name=name: served(name), f"{name} is served")


async def run_suite(programs: Path, kubeconfig: Path, pods: Pods, only: list[str]) -> dict[str, str]:
    """only: names of tests; all of them if none are given."""
    results: dict[str, str] = {}
    (programs / LOG).unlink(missing_ok=True)
    if not only:
        skipped = ",".join((*OF_PODS, *ALONE))
        results |= await judge(programs, kubeconfig, f"-skip-tests={skipped}")
    for name in only or ALONE:
        pods.without = IN_THE_WAY if name in ALONE else ""
        results |= await judge(programs, kubeconfig, f"-run-test={name}")
    return results


async def conformance(kind: str, only: list[str]) -> int:
    """The exit status. kind: one of SERVERS."""
    programs = build()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kubeconfig, address = await stack.enter_async_context(running_server(kind))
        bench = await stack.enter_async_context(running_workbench())
        client = await stack.enter_async_context(Client(load_config(str(kubeconfig))))
        await define(client)
        runtime = Runtime(client)
        settings = Settings(bind_address="127.0.0.1", access_log=str(bench.access_log))
        GatewayController(runtime, bench.ads, bench.ledger, settings)
        stop = asyncio.Event()
        running = asyncio.create_task(runtime.run(stop))
        pods = Pods(client, programs / "echo", folder, address)
        following = asyncio.create_task(pods.follow())
        try:
            manifest = {"apiVersion": GATEWAY_CLASSES.api_version, **CLASS}
            await client.apply(GATEWAY_CLASSES, manifest, field_manager="conformance")
            results = await run_suite(programs, kubeconfig, pods, only)
        finally:
            following.cancel()
            pods.close()
            stop.set()
            await running
    for name, result in sorted(results.items()):
        print(result, name)
    passed = sum(result == "PASS" for result in results.values())
    print(f"{passed} of {len(results)} passed on the server {kind!r}; not run: {', '.join(OF_PODS)}")
    print(f"output: {programs / LOG}")
    return 0 if results and passed == len(results) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the Gateway API's conformance suite.")
    parser.add_argument("--server", choices=SERVERS, default=SERVERS[0])
    parser.add_argument("tests", nargs="*", help="names of tests; all of them if none are given")
    arguments = parser.parse_args()
    return asyncio.run(conformance(arguments.server, arguments.tests))


if __name__ == "__main__":
    sys.exit(main())
