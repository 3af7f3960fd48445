"""Pods as people know them, run by a node that talks to the embedded API server."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.node.conftest import (
    RunningNode,
    condition,
    container_status,
    is_ready,
    phase_is,
    shell,
    until,
)
from tests.node.test_runner import processes_with

from kajitori.api.resource import CONFIG_MAPS, PODS, SECRETS


async def test_a_pod_that_never_restarts_succeeds_or_fails_by_its_exit_code(node: RunningNode) -> None:
    await node.create_pod("good", shell("echo done"), restartPolicy="Never")
    await node.create_pod("bad", shell("echo why > /dev/termination-log; exit 3"), restartPolicy="Never")
    good = await node.wait_for("good", phase_is("Succeeded"))
    bad = await node.wait_for("bad", phase_is("Failed"))
    assert node.log(good) == "done\n"
    assert container_status(good)["state"]["terminated"]["reason"] == "Completed"
    terminated = container_status(bad)["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"], terminated["message"]) == (3, "Error", "why\n")
    assert condition(good, "Ready") | {"lastTransitionTime": ""} == {
        "type": "Ready",
        "status": "False",
        "reason": "PodCompleted",
        "lastTransitionTime": "",
    }


async def test_a_pod_that_has_ended_says_with_its_log_why_where_asked_to(node: RunningNode) -> None:
    await node.create_pod(
        "p",
        shell("echo the reason; exit 1", terminationMessagePolicy="FallbackToLogsOnError"),
        restartPolicy="Never",
    )
    pod = await node.wait_for("p", phase_is("Failed"))
    assert container_status(pod)["state"]["terminated"]["message"] == "the reason\n"


async def test_a_container_that_crashes_starts_again_and_backs_off(node: RunningNode) -> None:
    await node.create_pod("p", shell("echo once; exit 1"))
    pod = await node.wait_for("p", lambda pod: container_status(pod).get("restartCount", 0) >= 3)
    pod = await node.wait_for("p", lambda pod: "waiting" in container_status(pod)["state"])
    status = container_status(pod)
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["state"]["waiting"]["message"].startswith("back-off ")
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert pod["status"]["phase"] == "Running"
    await node.wait_event("p", "BackOff")


async def test_a_container_that_fails_just_before_its_pod_is_deleted_does_not_start_again(
    node: RunningNode,
) -> None:
    await node.stop_agent()
    node.options = dataclasses.replace(node.options, settle_seconds=60.0)
    await node.start_agent()
    await node.create_pod("p", shell("exit 1"), metadata={"finalizers": ["kajitori.dev/look"]})
    await node.wait_for("p", lambda pod: "terminated" in container_status(pod).get("state", {}))
    await node.delete("p")
    pod = await node.wait_for("p", phase_is("Failed"))
    status = container_status(pod)
    assert (status["restartCount"], status["state"]["terminated"]["exitCode"]) == (0, 1)
    await node.client.patch(PODS, "p", {"metadata": {"finalizers": None}}, namespace="default")
    await node.wait_gone("p")


async def test_on_failure_starts_again_only_after_a_failure(node: RunningNode) -> None:
    script = "test -e /state/ran && exit 0; touch /state/ran; exit 1"
    await node.create_pod(
        "p",
        shell(script, volumeMounts=[{"name": "state", "mountPath": "/state"}]),
        restartPolicy="OnFailure",
        volumes=[{"name": "state", "emptyDir": {}}],
    )
    pod = await node.wait_for("p", phase_is("Succeeded"))
    assert container_status(pod)["restartCount"] == 1


async def test_init_containers_run_one_by_one_before_the_others(node: RunningNode) -> None:
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    await node.create_pod(
        "p",
        shell("cat /shared/order; sleep 1000", volumeMounts=mounts),
        initContainers=[
            {
                "name": "first",
                "image": "busybox",
                "volumeMounts": mounts,
                **shell("sleep 0.2; echo 1 >> /shared/order"),
            },
            {
                "name": "second",
                "image": "busybox",
                "volumeMounts": mounts,
                **shell("echo 2 >> /shared/order"),
            },
        ],
        volumes=[{"name": "shared", "emptyDir": {}}],
    )
    pending = await node.wait_for(
        "p", lambda pod: "running" in container_status(pod, "first").get("state", {})
    )
    assert container_status(pending)["state"]["waiting"]["reason"] == "PodInitializing"
    assert condition(pending, "Initialized")["message"] == "containers with incomplete status: [first second]"
    pod = await node.wait_ready("p")
    await until(lambda: node.log(pod) == "1\n2\n")
    assert container_status(pod, "first")["state"]["terminated"]["reason"] == "Completed"


async def test_a_failing_init_container_fails_a_pod_that_never_restarts(node: RunningNode) -> None:
    init = {"name": "init", "image": "busybox", **shell("exit 4")}
    await node.create_pod("p", shell("true"), restartPolicy="Never", initContainers=[init])
    pod = await node.wait_for("p", phase_is("Failed"))
    assert container_status(pod, "init")["state"]["terminated"]["exitCode"] == 4
    assert "waiting" in container_status(pod)["state"]


async def test_a_sidecar_starts_first_and_ends_last(node: RunningNode) -> None:
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    sidecar = {
        "name": "sidecar",
        "image": "busybox",
        "restartPolicy": "Always",
        "volumeMounts": mounts,
        **shell("trap 'echo ended; exit 0' TERM; touch /shared/up; while :; do sleep 0.05; done"),
        "startupProbe": {"exec": {"command": ["test", "-e", "/shared/up"]}, "periodSeconds": 1},
    }
    await node.create_pod(
        "p",
        shell("test -e /shared/up && echo met", volumeMounts=mounts),
        restartPolicy="Never",
        initContainers=[sidecar],
        volumes=[{"name": "shared", "emptyDir": {}}],
    )
    pod = await node.wait_for("p", phase_is("Succeeded"))
    assert node.log(pod) == "met\n"
    pod = await node.wait_for("p", lambda pod: "terminated" in container_status(pod, "sidecar")["state"])
    assert node.log(pod, "sidecar") == "ended\n"


async def test_a_deleted_pod_gets_its_hook_its_signal_and_its_grace(node: RunningNode) -> None:
    mounts = [{"name": "out", "mountPath": "/out"}]
    folder = node.home / "out"
    folder.mkdir()
    script = "trap 'echo term >> /out/order; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /out/order"]}}}
    pod = await node.create_pod(
        "p",
        shell(script, volumeMounts=mounts, lifecycle=hook),
        volumes=[{"name": "out", "hostPath": {"path": str(folder)}}],
    )
    await until(lambda: node.log(pod) == "up\n")
    await node.delete("p")
    await node.wait_gone("p")
    assert (folder / "order").read_text() == "hook\nterm\n"
    assert not (node.home / "nodes/node-1/pods" / pod["metadata"]["uid"]).exists()


async def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(node: RunningNode) -> None:
    marker = f"3{os.getpid()}.77"
    await node.create_pod("p", shell(f"trap '' TERM; sleep {marker}; sleep {marker}"))
    await until(lambda: processes_with(f"sleep\0{marker}"))
    await node.delete("p", grace_seconds=1)
    await node.wait_gone("p")
    assert not processes_with(marker)


async def test_a_grace_that_is_shortened_while_it_runs_counts(node: RunningNode) -> None:
    await node.create_pod(
        "p", shell("trap '' TERM; echo up; while :; do sleep 1; done"), terminationGracePeriodSeconds=300
    )
    pod = await node.wait_ready("p")
    await until(lambda: node.log(pod))
    await node.delete("p")
    await node.wait_event("p", "Killing")
    await node.delete("p", grace_seconds=1)
    await node.wait_gone("p")


async def test_a_pod_deleted_by_force_leaves_no_process(node: RunningNode) -> None:
    marker = f"2{os.getpid()}.78"
    pod = await node.create_pod("p", shell(f"trap '' TERM; sleep {marker}; sleep {marker}"))
    await until(lambda: processes_with(f"sleep\0{marker}"))
    await node.delete("p", grace_seconds=0)
    await until(lambda: not processes_with(marker))
    folder = node.home / "nodes/node-1/pods" / pod["metadata"]["uid"]
    await until(lambda: not folder.exists())
    assert node.agent is not None
    await until(lambda: len(node.agent.node.addresses) == 0)


async def test_an_image_without_a_mapping_waits_with_its_cure_and_starts_once_it_is_mapped(
    node: RunningNode,
) -> None:
    await node.create_pod("p", {"image": "example.com/unknown:1"})
    pod = await node.wait_for("p", lambda pod: "waiting" in container_status(pod).get("state", {}))
    waiting = container_status(pod)["state"]["waiting"]
    assert waiting["reason"] == "ImageNotMapped"
    assert "images.yaml" in waiting["message"]
    await node.wait_event("p", "Failed", "images.yaml")
    (node.home / "images.yaml").write_text(
        'images: [{match: "example.com/unknown", engine: shell, entrypoint: [sleep, "1000"]}]'
    )
    await node.wait_ready("p")


async def test_a_command_that_is_not_found_is_a_start_error_with_its_name(node: RunningNode) -> None:
    await node.create_pod("p", {"command": ["nonesuch"]}, restartPolicy="Never")
    pod = await node.wait_for("p", phase_is("Failed"))
    terminated = container_status(pod)["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("StartError", 128)
    assert '"nonesuch": executable file not found' in terminated["message"]


async def test_readiness_follows_its_probe(node: RunningNode) -> None:
    volume = {
        "volumes": [
            {"name": "v", "hostPath": {"path": str(node.home / "probe"), "type": "DirectoryOrCreate"}}
        ]
    }
    probe = {"exec": {"command": ["test", "-e", "/v/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    mounts = [{"name": "v", "mountPath": "/v"}]
    await node.create_pod("p", shell("sleep 1000", readinessProbe=probe, volumeMounts=mounts), **volume)
    pod = await node.wait_for("p", phase_is("Running"))
    assert condition(pod, "Ready")["message"] == "containers with unready status: [c0]"
    (node.home / "probe/ready").touch()
    await node.wait_ready("p")
    (node.home / "probe/ready").unlink()
    await node.wait_for("p", lambda pod: not is_ready(pod))
    await node.wait_event("p", "Unhealthy", "Readiness probe failed")


async def test_a_container_that_fails_its_liveness_probe_is_restarted(node: RunningNode) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    await node.create_pod("p", shell("sleep 1000", livenessProbe=probe))
    pod = await node.wait_for("p", lambda pod: container_status(pod).get("restartCount", 0) >= 1)
    assert container_status(pod)["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGTERM
    await node.wait_event("p", "Killing", "failed liveness probe, will be restarted")


async def test_a_startup_probe_holds_back_the_others_and_restarts_what_never_starts(
    node: RunningNode,
) -> None:
    startup = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    never = {"exec": {"command": ["sh", "-c", "echo probed > /proc/1/fd/1"]}, "periodSeconds": 1}
    await node.create_pod("p", shell("sleep 1000", startupProbe=startup, livenessProbe=never))
    pod = await node.wait_for("p", lambda pod: container_status(pod).get("restartCount", 0) >= 1)
    assert not container_status(pod)["started"] or not is_ready(pod)
    await node.wait_event("p", "Unhealthy", "Startup probe failed")


async def test_a_failed_post_start_hook_restarts_the_container(node: RunningNode) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo no; exit 1"]}}}
    await node.create_pod("p", shell("sleep 1000", lifecycle=hook))
    await node.wait_event("p", "FailedPostStartHook", "exited with 1: no")
    await node.wait_for("p", lambda pod: container_status(pod).get("restartCount", 0) >= 1)


async def test_an_active_deadline_ends_the_pod(node: RunningNode) -> None:
    await node.create_pod("p", shell("sleep 1000"), activeDeadlineSeconds=1)
    pod = await node.wait_for("p", phase_is("Failed"))
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert container_status(pod)["state"]["terminated"]["exitCode"] == 128 + signal.SIGTERM


async def test_a_readiness_gate_holds_the_pod_back_until_its_condition_is_true(node: RunningNode) -> None:
    await node.create_pod("p", shell("sleep 1000"), readinessGates=[{"conditionType": "example.com/open"}])
    pod = await node.wait_for("p", phase_is("Running"))
    assert condition(pod, "ContainersReady")["status"] == "True"
    assert condition(pod, "Ready")["reason"] == "ReadinessGatesNotReady"
    patch = {"status": {"conditions": [{"type": "example.com/open", "status": "True"}]}}
    await node.client.patch(
        PODS, "p", patch, namespace="default", patch_type="strategic", subresource="status"
    )
    await node.wait_ready("p")


async def test_the_environment_comes_from_literals_maps_secrets_and_fields(node: RunningNode) -> None:
    await node.client.create(
        CONFIG_MAPS, {"metadata": {"name": "m", "namespace": "default"}, "data": {"A": "1", "B": "2"}}
    )
    await node.client.create(
        SECRETS, {"metadata": {"name": "s", "namespace": "default"}, "stringData": {"key": "hidden"}}
    )
    env: list[dict[str, Any]] = [
        {"name": "X", "value": "$(A)-$(B) $$(A) $(NONE)"},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]
    pod = await node.create_pod(
        "p",
        {
            "command": ["sh", "-c", 'echo "$X|$S|$IP|$L|$M|$0"', "$(S)"],
            "env": env,
            "envFrom": [{"configMapRef": {"name": "m"}}],
            "resources": {"limits": {"memory": "64Mi"}},
        },
        restartPolicy="Never",
        metadata={"labels": {"app": "web"}},
    )
    pod = await node.wait_for("p", phase_is("Succeeded"))
    assert node.log(pod) == f"1-2 $(A) $(NONE)|hidden|{pod['status']['podIP']}|web|64|hidden\n"


async def test_a_missing_config_map_is_waited_for_by_name(node: RunningNode) -> None:
    await node.create_pod(
        "p", shell("echo $A", envFrom=[{"configMapRef": {"name": "late"}}]), restartPolicy="Never"
    )
    pod = await node.wait_for("p", lambda pod: "waiting" in container_status(pod).get("state", {}))
    assert container_status(pod)["state"]["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": 'configmap "late" not found',
    }
    await node.client.create(
        CONFIG_MAPS, {"metadata": {"name": "late", "namespace": "default"}, "data": {"A": "7"}}
    )
    pod = await node.wait_for("p", phase_is("Succeeded"))
    assert node.log(pod) == "7\n"


async def test_a_missing_secret_volume_is_an_event_and_is_waited_for(node: RunningNode) -> None:
    await node.create_pod(
        "p",
        shell("cat /s/key", volumeMounts=[{"name": "s", "mountPath": "/s"}]),
        restartPolicy="Never",
        volumes=[{"name": "s", "secret": {"secretName": "late"}}],
    )
    await node.wait_event(
        "p", "FailedMount", 'MountVolume.SetUp failed for volume "s" : secret "late" not found'
    )
    await node.wait_for("p", lambda pod: condition(pod, "PodReadyToStartContainers").get("status") == "False")
    await node.client.create(
        SECRETS, {"metadata": {"name": "late", "namespace": "default"}, "stringData": {"key": "x"}}
    )
    pod = await node.wait_for("p", phase_is("Succeeded"))
    assert node.log(pod) == "x\n"


async def test_a_mounted_config_map_follows_its_object(node: RunningNode) -> None:
    body = {"metadata": {"name": "m", "namespace": "default"}, "data": {"value": "old"}}
    await node.client.create(CONFIG_MAPS, body)
    script = "cat /m/value; until grep -q new /m/value; do sleep 0.05; done; cat /m/value"
    await node.create_pod(
        "p",
        shell(script, volumeMounts=[{"name": "m", "mountPath": "/m"}]),
        restartPolicy="Never",
        volumes=[{"name": "m", "configMap": {"name": "m"}}],
    )
    await node.wait_for("p", phase_is("Running"))
    await node.client.patch(CONFIG_MAPS, "m", {"data": {"value": "new"}}, namespace="default")
    pod = await node.wait_for("p", phase_is("Succeeded"))
    assert node.log(pod).replace("\n", "") == "oldnew"


async def test_a_service_account_token_lets_the_pod_speak_to_the_api_as_itself(node: RunningNode) -> None:
    script = """
import json, ssl, urllib.request, os
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
token = open(folder + "/token").read()
url = "https://%s:%s/apis/authentication.k8s.io/v1/selfsubjectreviews" % (
    os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"])
context = ssl._create_unverified_context()
request = urllib.request.Request(url, data=b"{}", headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request, context=context))["status"]["userInfo"]["username"], open(folder + "/namespace").read())
"""
    await node.create_pod(
        "p", {"image": "python", "command": ["python3", "-c", script]}, restartPolicy="Never"
    )
    pod = await node.wait_for("p", lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"))
    assert node.log(pod) == "system:serviceaccount:default:default default\n"


async def test_gpus_are_given_to_containers_and_a_pod_that_asks_for_too_many_fails(node: RunningNode) -> None:
    def asks(count: int) -> dict[str, Any]:
        return {"resources": {"limits": {"nvidia.com/gpu": str(count)}}}

    await node.create_pod("a", shell("echo $NVIDIA_VISIBLE_DEVICES; sleep 1000", **asks(5)))
    first = await node.wait_ready("a")
    await until(lambda: node.log(first) == "0,1,2,3,4\n")
    await node.create_pod("b", shell("true", **asks(4)))
    refused = await node.wait_for("b", phase_is("Failed"))
    assert refused["status"]["reason"] == "OutOfnvidia.com/gpu"
    assert "requested 4 GPUs, 3 of 8 are free" in refused["status"]["message"]
    await node.delete("a")
    await node.wait_gone("a")
    await node.create_pod("c", shell("sleep 1000", **asks(8)))
    await node.wait_ready("c")


async def test_what_is_not_honoured_is_named(node: RunningNode) -> None:
    await node.create_pod(
        "p", shell("sleep 1000"), securityContext={"runAsUser": 12345}, shareProcessNamespace=True
    )
    pod = await node.wait_ready("p")
    limited = condition(pod, "kajitori.dev/Limited")
    assert limited["status"] == "True"
    assert "runAsUser" in limited["message"]
    assert "shareProcessNamespace" in limited["message"]


async def test_volumes_of_other_kinds_are_refused_by_name(node: RunningNode) -> None:
    await node.create_pod("p", shell("true"), volumes=[{"name": "v", "nfs": {"server": "s", "path": "/"}}])
    await node.wait_event("p", "FailedMount", 'volume "v" (nfs) is of a kind that these nodes do not have')


async def test_a_claim_is_a_folder_that_outlives_its_pods_and_goes_with_the_claim(node: RunningNode) -> None:
    from kajitori.api.resource import PERSISTENT_VOLUME_CLAIMS

    claim = {
        "metadata": {"name": "data", "namespace": "default"},
        # Of a class that nobody serves: those of the default class are made by the cluster's controllers.
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "standard",
        },
    }
    await node.client.create(PERSISTENT_VOLUME_CLAIMS, claim)
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    mounts = [{"name": "d", "mountPath": "/data", "subPath": "inner"}]
    await node.create_pod(
        "w", shell("echo kept > /data/file", volumeMounts=mounts), volumes=volumes, restartPolicy="Never"
    )
    await node.wait_for("w", phase_is("Succeeded"))
    marked = await node.client.get(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    assert marked["status"]["phase"] == "Bound"
    assert marked["status"]["capacity"] == {"storage": "1Gi"}
    await node.delete("w")
    await node.wait_gone("w")
    await node.create_pod(
        "r", shell("cat /data/file", volumeMounts=mounts), volumes=volumes, restartPolicy="Never"
    )
    pod = await node.wait_for("r", phase_is("Succeeded"))
    assert node.log(pod) == "kept\n"
    await node.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
    released = {"metadata": {"finalizers": None}}
    await node.client.patch(PERSISTENT_VOLUME_CLAIMS, "data", released, namespace="default")
    await node.delete("r")
    await node.wait_gone("r")
    folder = node.home / "volumes/default"
    await until(lambda: not list(folder.iterdir()))


async def test_an_empty_dir_in_memory_is_shared_by_the_containers_of_a_pod(node: RunningNode) -> None:
    mounts = [{"name": "m", "mountPath": "/dev/shm"}]
    await node.create_pod(
        "p",
        shell("echo hi > /dev/shm/y; mv /dev/shm/y /dev/shm/x; sleep 1000", volumeMounts=mounts),
        shell(
            "until cat /dev/shm/x; do sleep 0.05; done; df /dev/shm | tail -1; sleep 1000",
            volumeMounts=mounts,
        ),
        volumes=[{"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    )
    pod = await node.wait_ready("p")
    # `cat` may complain first, until the other container has written.
    text = await until(lambda: "tmpfs" in (text := node.log(pod, "c1")) and text.endswith("\n") and text)
    assert "hi\n" in text
    assert "tmpfs" in text and "1024" in text


async def test_containers_restart_with_the_image_that_the_pod_now_has(node: RunningNode) -> None:
    await node.create_pod("p", {"image": "busybox", "command": ["sleep", "1000"]})
    await node.wait_ready("p")
    await node.client.patch(
        PODS,
        "p",
        {"spec": {"containers": [{"name": "c0", "image": "alpine"}]}},
        namespace="default",
        patch_type="strategic",
    )
    pod = await node.wait_for("p", lambda pod: container_status(pod)["restartCount"] == 1 and is_ready(pod))
    assert container_status(pod)["imageID"] == "shell://docker.io/library/alpine"


async def test_nothing_is_written_while_nothing_happens(node: RunningNode) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    before = await node.wait_ready("p")
    await asyncio.sleep(1.0)
    after = await node.pod("p")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


@pytest.mark.parametrize("subresource", ["status"])
async def test_conditions_of_others_stay(node: RunningNode, subresource: str) -> None:
    await node.create_pod("p", shell("sleep 1000"))
    await node.wait_ready("p")
    patch = {"status": {"conditions": [{"type": "example.com/mine", "status": "True"}]}}
    await node.client.patch(
        PODS, "p", patch, namespace="default", patch_type="strategic", subresource=subresource
    )
    await node.delete("p")
    await node.wait_gone("p")


def test_folders_of_the_node_are_private(home: Path) -> None:
    assert home.stat().st_mode & 0o077 == 0
