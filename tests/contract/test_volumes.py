"""Claims find volumes, and both are protected and reclaimed, alike on both servers."""

from __future__ import annotations

from typing import Any

from tests.servers import Server, pod
from tests.waiting import eventually

Object = dict[str, Any]
VOLUMES = "/api/v1/persistentvolumes"
GI = "1Gi"


class Storage:
    """Claims of one namespace, and volumes of a class of its own."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.http, self.namespace = server.http, namespace
        self.claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self.storage_class = f"class-{namespace}"

    async def make_class(
        self, provisioner: str = "kubernetes.io/no-provisioner", mode: str = "Immediate"
    ) -> None:
        body = {
            "metadata": {"name": self.storage_class},
            "provisioner": provisioner,
            "volumeBindingMode": mode,
        }
        (await self.http.create("/apis/storage.k8s.io/v1/storageclasses", body)).ok()

    async def volume(self, name: str, size: str = GI, **spec: Any) -> str:
        name = f"{name}-{self.namespace}"
        body = {
            "metadata": {"name": name, "labels": spec.pop("labels", {})},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": size},
                "hostPath": {"path": f"/data/{name}"},
                "storageClassName": self.storage_class,
                **spec,
            },
        }
        (await self.http.create(VOLUMES, body)).ok()
        return name

    async def claim(self, name: str = "c", size: str = GI, **spec: Any) -> Object:
        body = {
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size}},
                "storageClassName": self.storage_class,
                **spec,
            },
        }
        return (await self.http.create(self.claims, body)).ok()

    async def claim_is(self, phase: str, name: str = "c") -> Object:
        return await self._is(f"{self.claims}/{name}", phase)

    async def volume_is(self, phase: str, name: str) -> Object:
        return await self._is(f"{VOLUMES}/{name}", phase)

    async def _is(self, path: str, phase: str) -> Object:
        async def check() -> Object | None:
            found = (await self.http.get(path)).json
            return found if found.get("status", {}).get("phase") == phase else None

        return await eventually(check, f"{path} is {phase}")

    async def gone(self, path: str) -> None:
        async def check() -> bool:
            return (await self.http.get(path)).code == 404

        await eventually(check, f"{path} is gone")

    async def event(self, reason: str) -> str:
        path = f"/api/v1/namespaces/{self.namespace}/events"

        async def check() -> str | None:
            items = (await self.http.get(path, fieldSelector=f"reason={reason}")).ok()["items"]
            return items[0]["message"] if items else None

        return await eventually(check, f"there is an event {reason}")


async def test_a_claim_takes_the_smallest_volume_that_fits(server: Server, namespace: str) -> None:
    storage = Storage(server, namespace)
    await storage.make_class()
    for name, size in (("large", "50Gi"), ("small", GI), ("medium", "5Gi")):
        await storage.volume_is("Available", await storage.volume(name, size))
    made = await storage.claim(size="2Gi")
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    bound = await storage.claim_is("Bound")
    assert bound["spec"]["volumeName"] == f"medium-{namespace}"
    assert bound["metadata"]["annotations"] == {
        "pv.kubernetes.io/bind-completed": "yes",
        "pv.kubernetes.io/bound-by-controller": "yes",
    }
    assert bound["status"] == {
        "phase": "Bound",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "5Gi"},
    }
    volume = await storage.volume_is("Bound", f"medium-{namespace}")
    assert volume["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    reference = volume["spec"]["claimRef"]
    assert (reference["kind"], reference["name"], reference["uid"]) == (
        "PersistentVolumeClaim",
        "c",
        bound["metadata"]["uid"],
    )
    (await server.http.delete(f"{storage.claims}/c")).ok()
    await storage.gone(f"{storage.claims}/c")
    await storage.volume_is("Released", f"medium-{namespace}")


async def test_a_selector_or_a_name_chooses_the_volume(server: Server, namespace: str) -> None:
    storage = Storage(server, namespace)
    await storage.make_class()
    for name, labels in (("plain", {}), ("fast", {"disk": "fast"})):
        await storage.volume_is("Available", await storage.volume(name, labels=labels))
    await storage.claim("chosen", selector={"matchLabels": {"disk": "fast"}})
    assert (await storage.claim_is("Bound", "chosen"))["spec"]["volumeName"] == f"fast-{namespace}"
    await storage.claim("named", volumeName=f"plain-{namespace}")
    named = await storage.claim_is("Bound", "named")
    assert named["metadata"]["annotations"] == {"pv.kubernetes.io/bind-completed": "yes"}
    reserved = {"claimRef": {"namespace": namespace, "name": "later"}}
    await storage.volume_is("Available", await storage.volume("kept", **reserved))
    await storage.claim("later")
    assert (await storage.claim_is("Bound", "later"))["spec"]["volumeName"] == f"kept-{namespace}"


async def test_what_cannot_be_bound_says_why(server: Server, namespace: str) -> None:
    storage = Storage(server, namespace)
    await storage.make_class()
    tiny = await storage.volume("tiny", "1Mi")
    await storage.volume_is("Available", tiny)
    await storage.claim("named", volumeName=tiny)
    assert await storage.event("VolumeMismatch") == (
        f'Cannot bind to requested volume "{tiny}": requested PV is too small'
    )
    await storage.claim("nothing", storageClassName="")
    assert await storage.event("FailedBinding") == (
        "no persistent volumes available for this claim and no storage class is set"
    )
    await storage.claim("unknown", storageClassName=f"no-{namespace}")
    assert await storage.event("ProvisioningFailed") == (
        f'storageclass.storage.k8s.io "no-{namespace}" not found'
    )


async def test_a_class_that_waits_says_so(server: Server, namespace: str) -> None:
    storage = Storage(server, namespace)
    await storage.make_class(mode="WaitForFirstConsumer")
    await storage.volume_is("Available", await storage.volume("v"))
    await storage.claim()
    assert await storage.event("WaitForFirstConsumer") == (
        "waiting for first consumer to be created before binding"
    )
    assert (await storage.claim_is("Pending"))["spec"].get("volumeName") is None


async def test_another_provisioner_is_waited_for(server: Server, namespace: str) -> None:
    storage = Storage(server, namespace)
    await storage.make_class("example.com/disks")
    await storage.claim()
    assert await storage.event("ExternalProvisioning") == (
        "Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by"
        " the system administrator. If volume creation is delayed, please verify that the provisioner is running"
        " and correctly registered."
    )
    annotations = (await storage.claim_is("Pending"))["metadata"]["annotations"]
    assert annotations["volume.kubernetes.io/storage-provisioner"] == "example.com/disks"


async def test_a_claim_in_use_and_a_bound_volume_stay(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    storage = Storage(server, namespace)
    await storage.make_class()
    name = await storage.volume("v")
    await storage.claim()
    await storage.claim_is("Bound")
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    (await server.http.create(storage.pods, pod("user", volumes=volumes))).ok()

    async def runs() -> bool:
        return (await server.http.get(f"{storage.pods}/user")).json["status"].get("phase") == "Running"

    await eventually(runs, "the pod runs")
    (await server.http.delete(f"{VOLUMES}/{name}")).ok()
    (await server.http.delete(f"{storage.claims}/c")).ok()
    assert (await server.http.get(f"{storage.claims}/c")).ok()["metadata"]["deletionTimestamp"]
    assert (await server.http.get(f"{VOLUMES}/{name}")).ok()["metadata"]["deletionTimestamp"]
    (await server.http.delete(f"{storage.pods}/user", gracePeriodSeconds="0")).ok()
    await storage.gone(f"{storage.claims}/c")
    await storage.gone(f"{VOLUMES}/{name}")
