"""Claims and volumes on a real embedded API server; the folder provisioner makes real folders."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.api.resource import (
    CORE_EVENTS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SERVICE_ACCOUNTS,
)
from kajitori.base.errors import NotFound
from kajitori.base.quantity import parse_quantity
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers import service_accounts, storage
from kajitori.laptop.controllers.storage import plan
from kajitori.laptop.controllers.storage.views import (
    ClaimSpecView,
    ClaimView,
    ResourcesView,
    VolumeSpecView,
    VolumeStatusView,
    VolumeView,
)


@pytest.fixture
async def stored(world):
    await world.start(service_accounts, storage)

    async def account():
        return (await world.client.list(SERVICE_ACCOUNTS, "default")).items

    await world.until(account)
    return world


async def make_claim(world, name="data", size="1Gi", **spec):
    body = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
    }
    return await world.client.create(PERSISTENT_VOLUME_CLAIMS, body)


async def make_volume(world, name, size="1Gi", **spec):
    body = {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
            "capacity": {"storage": size},
            "hostPath": {"path": f"/tmp/none/{name}"},
            **spec,
        },
    }
    return await world.client.create(PERSISTENT_VOLUMES, body)


async def make_pod(world, claim="data", node="n1"):
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": claim}}
    spec = {"containers": [{"name": "c", "image": "i"}], "volumes": [volume]}
    if node:
        spec["nodeName"] = node
    return await world.client.create(
        PODS, {"metadata": {"name": "user", "namespace": "default"}, "spec": spec}
    )


async def claim(world, name="data"):
    return await world.client.get(PERSISTENT_VOLUME_CLAIMS, name, "default")


async def volume(world, name):
    return await world.client.get(PERSISTENT_VOLUMES, name)


async def phase_of(world, phase, name="data"):
    async def check():
        found = await claim(world, name)
        assert found["status"]["phase"] == phase
        return found

    return await world.until(check)


async def volume_phase(world, name, phase):
    async def check():
        found = await volume(world, name)
        assert found["status"]["phase"] == phase
        return found

    return await world.until(check)


async def gone(world, resource, name, namespace=None):
    async def check():
        try:
            await world.client.get(resource, name, namespace)
        except NotFound:
            return True
        return False

    await world.until(check)


async def event(world, reason):
    async def check():
        found = await world.client.list(CORE_EVENTS, "default", field_selector=f"reason={reason}")
        return found.items[0]["message"] if found.items else None

    return await world.until(check)


async def test_a_claim_without_a_class_gets_a_folder_once_a_pod_with_it_has_a_node(stored):
    await make_claim(stored)
    assert await event(stored, "WaitForFirstConsumer") == (
        "waiting for first consumer to be created before binding"
    )
    await make_pod(stored)
    bound = await phase_of(stored, "Bound")
    assert bound["spec"]["storageClassName"] == "folder"
    assert bound["status"]["capacity"] == {"storage": "1Gi"}
    name = f"pvc-{bound['metadata']['uid']}"
    assert bound["spec"]["volumeName"] == name
    assert bound["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "n1"
    found = await volume_phase(stored, name, "Bound")
    assert found["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]
    path = Path(found["spec"]["hostPath"]["path"])
    assert await asyncio.to_thread(path.is_dir)
    # In use: it goes when its pod has gone, and its volume and folder with it.
    await stored.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    await asyncio.sleep(0.2)
    assert (await claim(stored))["metadata"]["deletionTimestamp"]
    await stored.client.delete(PODS, "user", "default", grace_period_seconds=0)
    await gone(stored, PERSISTENT_VOLUME_CLAIMS, "data", "default")
    await gone(stored, PERSISTENT_VOLUMES, name)
    assert not await asyncio.to_thread(path.exists)


async def test_the_smallest_volume_that_is_large_enough_is_bound(stored):
    for name, size in (("small", "1Gi"), ("medium", "5Gi"), ("large", "50Gi")):
        await make_volume(stored, name, size)
        await volume_phase(stored, name, "Available")
    await make_claim(stored, size="2Gi", storageClassName="")
    bound = await phase_of(stored, "Bound")
    assert bound["spec"]["volumeName"] == "medium"
    assert bound["status"]["accessModes"] == ["ReadWriteOnce", "ReadOnlyMany"]
    annotations = bound["metadata"]["annotations"]
    assert annotations["pv.kubernetes.io/bind-completed"] == "yes"
    await stored.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    # What is retained is given to nobody else.
    await volume_phase(stored, "medium", "Released")
    await make_claim(stored, "again", "2Gi", storageClassName="")
    assert (await phase_of(stored, "Bound", "again"))["spec"]["volumeName"] == "large"


async def test_a_volume_that_is_bound_stays_until_its_claim_has_gone(stored):
    await make_volume(stored, "kept")
    await make_claim(stored, storageClassName="")
    await phase_of(stored, "Bound")
    await stored.client.delete(PERSISTENT_VOLUMES, "kept")
    await asyncio.sleep(0.2)
    assert (await volume(stored, "kept"))["metadata"]["deletionTimestamp"]
    await stored.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    await gone(stored, PERSISTENT_VOLUMES, "kept")


async def test_a_claim_for_a_volume_that_does_not_fit_says_why(stored):
    await make_volume(stored, "tiny", "1Mi")
    await make_claim(stored, storageClassName="", volumeName="tiny")
    assert (
        await event(stored, "VolumeMismatch")
        == 'Cannot bind to requested volume "tiny": requested PV is too small'
    )
    await make_claim(stored, "other", storageClassName="")
    assert await event(stored, "FailedBinding") == (
        "no persistent volumes available for this claim and no storage class is set"
    )
    await make_claim(stored, "third", storageClassName="fast")
    assert await event(stored, "ProvisioningFailed") == 'storageclass.storage.k8s.io "fast" not found'


VOLUMES = st.lists(
    st.builds(
        lambda name, size, group, modes, phase: VolumeView(
            metadata=Metadata(name=name),
            spec=VolumeSpecView(
                capacity={"storage": f"{size}Gi"}, storage_class_name=group, access_modes=sorted(modes)
            ),
            status=VolumeStatusView(phase=phase),
        ),
        st.text("abc", min_size=1, max_size=4),
        st.integers(1, 9),
        st.sampled_from(["", "fast"]),
        st.sets(st.sampled_from(["ReadWriteOnce", "ReadOnlyMany"]), min_size=1),
        st.sampled_from(["Available", "Bound", "Released"]),
    ),
    max_size=8,
)


@given(VOLUMES, st.integers(1, 9), st.sampled_from(["", "fast"]))
def test_no_smaller_volume_that_fits_is_passed_over(volumes, size, group):
    wanted = ClaimView(
        metadata=Metadata(name="c", namespace="default", uid="u"),
        spec=ClaimSpecView(
            access_modes=["ReadWriteOnce"],
            resources=ResourcesView(requests={"storage": f"{size}Gi"}),
            storage_class_name=group,
        ),
    )
    found = plan.find_volume(wanted, volumes, waits=False)
    fitting = [one for one in volumes if one.status.phase == "Available" and not plan.misfit(one, wanted)]
    assert (found is not None) == bool(fitting)
    if found is not None:
        assert found in fitting
        assert parse_quantity(found.size) == min(parse_quantity(one.size) for one in fitting)
