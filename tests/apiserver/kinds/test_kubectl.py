"""The real kubectl against the server: the kinds that it sends as protobuf, apply, explain, errors."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil

import pytest

from kajitori.laptop.apiserver.testing import running_api_server

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


class Kubectl:
    """kubectl(arguments, input) -> (exit code, stdout, stderr)."""

    def __init__(self, kubeconfig: str, cache: str) -> None:
        self.environment = {**os.environ, "KUBECONFIG": kubeconfig, "KUBECACHEDIR": cache}

    async def __call__(self, *arguments: str, given: str = "") -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            "kubectl",
            *arguments,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(given.encode()), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def ok(self, *arguments: str, given: str = "") -> str:
        code, out, err = await self(*arguments, given=given)
        assert code == 0, (arguments, out, err)
        return out


@pytest.fixture
async def kubectl(tmp_path):
    async with running_api_server() as server:
        yield Kubectl(str(server.kubeconfig), str(tmp_path))


CREATED_AS_PROTOBUF = [
    "serviceaccount robot",
    "configmap settings --from-literal=a=1",
    "secret generic credentials --from-literal=p=q",
    "deployment web --image=nginx:1.27 --replicas=2",
    "job once --image=busybox -- echo hi",
    "cronjob often --image=busybox --schedule='*/5 * * * *' -- date",
    "role reader --verb=get,list --resource=pods",
    "rolebinding readers --role=reader --serviceaccount=default:robot",
    "clusterrole node-reader --verb=get --resource=nodes",
    "clusterrolebinding node-readers --clusterrole=node-reader --user=jane",
    "quota few --hard=pods=3,cpu=2",
    "poddisruptionbudget one --selector=app=web --min-available=1",
    "priorityclass high --value=1000",
    "ingress door --rule=foo.com/bar=web:8080",
    "service clusterip web --tcp=80:8080",
]


async def test_kubectl_creates_what_it_sends_as_protobuf(kubectl):
    await kubectl.ok("create", "namespace", "shop")
    for line in CREATED_AS_PROTOBUF:
        await kubectl.ok("create", "-n", "shop", *shlex.split(line))
    await kubectl.ok("autoscale", "deployment", "web", "--max=5", "--cpu-percent=50", "-n", "shop")
    assert (await kubectl.ok("create", "token", "robot", "-n", "shop")).count(".") == 2
    listed = await kubectl.ok("get", "all,cm,secret,role,ing,pdb,quota", "-n", "shop", "-o", "wide")
    for shown in ("deployment.apps/web", "nginx:1.27", "*/5 * * * *", "cpu: <unknown>/50%", "foo.com"):
        assert shown in listed
    assert (await kubectl.ok("auth", "can-i", "create", "pods")).strip() == "yes"
    assert "kubernetes-admin" in await kubectl.ok("auth", "whoami")


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: nginx}]}
"""


async def test_kubectl_applies_validates_and_explains(kubectl):
    assert "created" in await kubectl.ok("apply", "-f", "-", given=DEPLOYMENT)
    assert "unchanged" in await kubectl.ok("apply", "-f", "-", given=DEPLOYMENT)
    assert "serverside-applied" in await kubectl.ok("apply", "--server-side", "-f", "-", given=DEPLOYMENT)

    misspelled = DEPLOYMENT.replace("replicas", "replcas")
    code, _, err = await kubectl("apply", "-f", "-", given=misspelled)
    assert code == 1
    assert 'unknown field "spec.replcas"' in err
    _, _, err = await kubectl("apply", "--validate=warn", "-f", "-", given=misspelled)
    assert 'Warning: unknown field "spec.replcas" (did you mean "replicas"?)' in err

    mismatch = DEPLOYMENT.replace("matchLabels: {app: web}", "matchLabels: {app: x}").replace(
        "web}", "new}", 1
    )
    code, _, err = await kubectl("create", "-f", "-", given=mismatch)
    assert code == 1
    assert "`selector` does not match template `labels`" in err

    assert "replicas <integer>" in await kubectl.ok("explain", "deployment.spec.replicas")
    explained = await kubectl.ok("explain", "pod.spec.containers", "--recursive")
    assert "readinessProbe" in explained
