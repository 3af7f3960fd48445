"""A vLLM of an environment of its own, run in a pod. It is a script here that tells what it sees."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.engines.test_vllm import install_vllm, put_weights
from tests.node.conftest import RunningNode, condition, container_status, phase_is

IMAGE = "vllm/vllm-openai:latest"
REPORT = """#!/bin/sh
echo "$0 $*"
echo "address $VLLM_HOST_IP of $KAJITORI_POD_IP"
ls "$2"
exec sleep ${SECONDS_TO_SLEEP:-0}
"""


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    executable = install_vllm(tmp_path / "vllm-env")
    executable.write_text(REPORT)
    monkeypatch.setenv("KAJITORI_VLLM", str(executable))
    return executable


def container(*command: str, **fields: Any) -> dict[str, Any]:
    return {"image": IMAGE, "command": ["vllm", *command], **fields}


async def test_a_real_vllm_sees_its_weights_and_its_address(
    node: RunningNode, vllm: Path, tmp_path: Path
) -> None:
    # Both lie in this machine's /tmp, in place of which containers have one of their own.
    model = put_weights(tmp_path / "model")
    await node.create_pod("p", container("serve", str(model)), restartPolicy="Never")
    pod = await node.wait_for("p", phase_is("Succeeded"))
    address = pod["status"]["podIP"]
    assert node.log(pod).splitlines() == [
        f"{vllm} serve {model}",
        f"address {address} of {address}",
        "config.json",
        "model.safetensors",
    ]
    assert container_status(pod)["imageID"] == "vllm://docker.io/vllm/vllm-openai"
    assert not condition(pod, "kajitori.dev/Simulated")


async def test_weights_in_a_volume_are_served_for_real(node: RunningNode, vllm: Path, tmp_path: Path) -> None:
    put_weights(tmp_path / "models" / "tiny")
    await node.create_pod(
        "p",
        container("serve", "/models/tiny", volumeMounts=[{"name": "models", "mountPath": "/models"}]),
        restartPolicy="Never",
        volumes=[{"name": "models", "hostPath": {"path": str(tmp_path / "models")}}],
    )
    pod = await node.wait_for("p", phase_is("Succeeded"))
    assert "model.safetensors" in node.log(pod)


async def test_weights_that_are_not_here_make_a_pod_simulated_with_the_reason(
    node: RunningNode, vllm: Path
) -> None:
    await node.create_pod("p", container("serve", "Qwen/Qwen3-8B"))
    pod = await node.wait_for("p", lambda pod: condition(pod, "kajitori.dev/Simulated"))
    simulated = condition(pod, "kajitori.dev/Simulated")
    assert (simulated["status"], simulated["reason"]) == ("True", "SimulatedEngine")
    assert "the weights of Qwen/Qwen3-8B are not on this machine" in simulated["message"]
    assert container_status(pod)["imageID"] == "simulated-vllm://docker.io/vllm/vllm-openai"


async def test_a_new_agent_knows_what_a_running_container_was_started_as(
    node: RunningNode, vllm: Path, tmp_path: Path
) -> None:
    model = put_weights(tmp_path / "model")
    environment = [{"name": "SECONDS_TO_SLEEP", "value": "1000"}]
    await node.create_pod("p", container("serve", str(model), env=environment))
    before = await node.wait_for("p", phase_is("Running"))
    await node.stop_agent()
    await asyncio.to_thread(vllm.unlink)
    await node.start_agent()
    await node.create_pod("later", container("serve", str(model)))
    await node.wait_for(
        "later", lambda pod: "ProgramMissing" in str(container_status(pod).get("state", {}).get("waiting"))
    )
    after = await node.wait_for("p", phase_is("Running"))
    assert container_status(after)["imageID"] == container_status(before)["imageID"]
    assert not condition(after, "kajitori.dev/Simulated")
