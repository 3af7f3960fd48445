"""Jobs, claims and autoscalers with real processes: what they print, keep and use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world.conftest import Cluster, down, needs_kubectl, up, wait_until

pytestmark = [pytest.mark.world, pytest.mark.timeout(300)]

SQUARES = """
apiVersion: batch/v1
kind: Job
metadata: {name: squares}
spec:
  completions: 3
  parallelism: 3
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: c
        image: busybox
        command: [sh, -c, "echo $((JOB_COMPLETION_INDEX * JOB_COMPLETION_INDEX)) on $(hostname)"]
---
apiVersion: batch/v1
kind: Job
metadata: {name: picky}
spec:
  podFailurePolicy:
    rules: [{action: FailJob, onExitCodes: {operator: In, values: [7]}}]
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: busybox, command: [sh, -c, "exit 7"]}]
"""

KEEPER = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: keeper}
spec:
  template:
    spec:
      restartPolicy: Never
      volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
      containers:
      - {name: c, image: busybox, command: [sh, -c, "echo kept > /data/file"], volumeMounts: [{name: data, mountPath: /data}]}
"""

BUSY = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: c
        image: busybox
        command: [sh, -c, "while true; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.05; done"]
        resources: {requests: {cpu: 10m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  maxReplicas: 2
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without a model."""
    made = up(tmp_path_factory.mktemp("kaji") / "home", "--nodes", "1", "--no-model")
    yield made
    down(made)


def condition(cluster: Cluster, job: str, name: str) -> dict[str, str] | None:
    conditions = cluster.get("job", job)["status"].get("conditions", [])
    return next((one for one in conditions if (one["type"], one["status"]) == (name, "True")), None)


def test_an_indexed_job_runs_a_process_for_each_index(plain: Cluster) -> None:
    plain.apply(SQUARES)
    wait_until(lambda: condition(plain, "squares", "Complete"), "the job is complete")
    pods = plain.items("pods", "-l", "job-name=squares")
    told = {plain.kaji("logs", pod["metadata"]["name"]).stdout.strip() for pod in pods}
    assert told == {f"{index**2} on squares-{index}" for index in range(3)}
    failed = wait_until(lambda: condition(plain, "picky", "Failed"), "the other job fails")
    assert failed["reason"] == "PodFailurePolicy" and "failed with exit code 7" in failed["message"]


def test_a_claim_is_a_folder_that_goes_with_it(plain: Cluster) -> None:
    plain.apply(KEEPER)
    wait_until(lambda: condition(plain, "keeper", "Complete"), "the job is complete")
    claim = plain.get("pvc", "data")
    assert claim["status"]["phase"] == "Bound"
    folder = plain.home / "persistent-volumes" / claim["spec"]["volumeName"]
    assert (folder / "file").read_text() == "kept\n"
    plain.kaji("delete", "job", "keeper")
    plain.kaji("delete", "pvc", "data")
    wait_until(lambda: not folder.exists(), "the folder is gone")
    wait_until(lambda: not plain.items("pv"), "the volume is gone")


@needs_kubectl
def test_busy_pods_show_in_kubectl_top_and_make_their_deployment_grow(plain: Cluster) -> None:
    plain.apply(BUSY)
    wait_until(lambda: len(plain.items("pods", "-l", "app=busy")) == 2, "the deployment has grown", 90)

    def top() -> list[list[str]]:
        done = plain.kubectl("top", "pods", "-l", "app=busy", "--no-headers", check=False)
        lines = [line.split() for line in done.stdout.splitlines()]
        return lines if len(lines) == 2 and all(line[1] != "0m" for line in lines) else []

    lines = wait_until(top, "both pods are measured")
    assert all(name.startswith("busy-") and memory.endswith("Mi") for name, _, memory in lines)
    node = plain.kubectl("top", "nodes", "--no-headers").stdout.split()
    assert node[1].endswith("m") and node[2].endswith("%")
    status = plain.get("hpa", "busy")["status"]
    assert status["desiredReplicas"] == 2
    assert status["currentMetrics"][0]["resource"]["current"]["averageUtilization"] > 50
