"""Jobs and CronJobs count, replace, suspend and end alike on both servers."""

from __future__ import annotations

from typing import Any

from tests.servers import Server
from tests.waiting import eventually

Object = dict[str, Any]
EXIT = "kajitori.dev/test-exit"
INDEX = "batch.kubernetes.io/job-completion-index"


class Jobs:
    """Jobs of one namespace."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.http = server.http
        self.namespace = namespace
        self.path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self.pods_path = f"/api/v1/namespaces/{namespace}/pods"

    async def create(self, name: str, exit_code: str | None = None, **spec: Any) -> Object:
        annotations = {} if exit_code is None else {EXIT: exit_code}
        template = {
            "metadata": {"annotations": annotations},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1"}]},
        }
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}}
        return (await self.http.create(self.path, {**job, "spec": {"template": template, **spec}})).ok()

    async def get(self, name: str) -> Object:
        return (await self.http.get(f"{self.path}/{name}")).ok()

    async def pods(self, name: str) -> list[Object]:
        found = (
            await self.http.get(self.pods_path, labelSelector=f"batch.kubernetes.io/job-name={name}")
        ).ok()
        return sorted(
            found["items"], key=lambda pod: int(pod["metadata"].get("annotations", {}).get(INDEX, 0))
        )

    async def active(self, name: str, count: int) -> list[Object]:
        """The pods, once so many are ready by the job's status."""

        async def ready() -> list[Object] | None:
            status = (await self.get(name)).get("status", {})
            if (status.get("active", 0), status.get("ready", 0)) != (count, count):
                return None
            pods = [pod for pod in await self.pods(name) if pod["status"]["phase"] == "Running"]
            return pods if len(pods) == count else None

        return await eventually(ready, f"{name} has {count} ready pods")

    async def finish(self, pod: Object, code: int) -> None:
        path = f"{self.pods_path}/{pod['metadata']['name']}"
        (await self.http.merge(path, {"metadata": {"annotations": {EXIT: str(code)}}})).ok()

    async def condition(self, name: str, type_name: str, seconds: float = 30.0) -> Object:
        async def found() -> Object | None:
            answer = await self.http.get(f"{self.path}/{name}")
            conditions = answer.json.get("status", {}).get("conditions") or []
            return next((c for c in conditions if (c["type"], c["status"]) == (type_name, "True")), None)

        return await eventually(found, f"{name} is {type_name}", seconds)


def summary(status: Object) -> Object:
    """A status without its times."""
    kept = {key: value for key, value in status.items() if not key.endswith("Time")}
    kept["conditions"] = [
        (one["type"], one["status"], one["reason"], one["message"]) for one in status.get("conditions", ())
    ]
    return kept


async def test_a_job_completes_with_the_same_status(server: Server, namespace: str, nodes: list[str]) -> None:
    jobs = Jobs(server, namespace)
    await jobs.create("work", "0", completions=3, parallelism=2)
    await jobs.condition("work", "Complete")
    status = (await jobs.get("work"))["status"]
    told = ("CompletionsReached", "Reached expected number of succeeded pods")
    assert summary(status) == {
        "conditions": [("SuccessCriteriaMet", "True", *told), ("Complete", "True", *told)],
        "ready": 0,
        "succeeded": 3,
        "terminating": 0,
        "uncountedTerminatedPods": {},
    }
    assert status["completionTime"] >= status["startTime"]
    pods = await jobs.pods("work")
    assert len(pods) == 3 and not any(pod["metadata"].get("finalizers") for pod in pods)


async def test_indexed_pods_look_the_same(server: Server, namespace: str, nodes: list[str]) -> None:
    jobs = Jobs(server, namespace)
    await jobs.create("many", completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=1)
    pods = await jobs.active("many", 3)
    uid = (await jobs.get("many"))["metadata"]["uid"]
    pod = pods[1]
    metadata, spec = pod["metadata"], pod["spec"]
    assert metadata["generateName"] == "many-1-" and spec["hostname"] == "many-1"
    assert metadata["annotations"] == {INDEX: "1", "batch.kubernetes.io/job-index-failure-count": "0"}
    labels = {key: value for key, value in metadata["labels"].items() if not key.startswith("topology.")}
    assert labels == {
        "batch.kubernetes.io/controller-uid": uid,
        INDEX: "1",
        "batch.kubernetes.io/job-name": "many",
        "controller-uid": uid,
        "job-name": "many",
    }
    assert metadata["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    assert spec["containers"][0]["env"] == [
        {
            "name": "JOB_COMPLETION_INDEX",
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}},
        }
    ]
    await jobs.finish(pods[0], 0)
    await jobs.finish(pods[2], 0)

    async def counted() -> bool:
        return (await jobs.get("many"))["status"].get("completedIndexes") == "0,2"

    await eventually(counted, "two indexes are counted")
    assert (await jobs.get("many"))["status"]["failedIndexes"] == ""


async def test_a_limit_of_failures_ends_the_job(server: Server, namespace: str, nodes: list[str]) -> None:
    jobs = Jobs(server, namespace)
    await jobs.create("fails", "1", backoffLimit=0)
    failed = await jobs.condition("fails", "Failed")
    told = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert (failed["reason"], failed["message"]) == told
    assert summary((await jobs.get("fails"))["status"]) == {
        "conditions": [("FailureTarget", "True", *told), ("Failed", "True", *told)],
        "failed": 1,
        "ready": 0,
        "terminating": 0,
        "uncountedTerminatedPods": {},
    }


async def test_an_index_fails_alone(server: Server, namespace: str, nodes: list[str]) -> None:
    jobs = Jobs(server, namespace)
    await jobs.create(
        "partly", completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=0
    )
    zero, one = await jobs.active("partly", 2)
    await jobs.finish(zero, 1)

    async def failed() -> bool:
        return (await jobs.get("partly"))["status"].get("failedIndexes") == "0"

    await eventually(failed, "index 0 has failed")
    await jobs.finish(one, 0)
    await jobs.condition("partly", "Failed")
    told = ("FailedIndexes", "Job has failed indexes")
    assert summary((await jobs.get("partly"))["status"]) == {
        "completedIndexes": "1",
        "conditions": [("FailureTarget", "True", *told), ("Failed", "True", *told)],
        "failed": 1,
        "failedIndexes": "0",
        "ready": 0,
        "succeeded": 1,
        "terminating": 0,
        "uncountedTerminatedPods": {},
    }


async def test_policies_decide_alike(server: Server, namespace: str, nodes: list[str]) -> None:
    jobs = Jobs(server, namespace)
    rules = [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]
    await jobs.create("strict", podFailurePolicy={"rules": rules})
    (pod,) = await jobs.active("strict", 1)
    await jobs.finish(pod, 42)
    failed = await jobs.condition("strict", "Failed")
    name = f"{namespace}/{pod['metadata']['name']}"
    assert (failed["reason"], failed["message"]) == (
        "PodFailurePolicy",
        f"Container c for pod {name} failed with exit code 42 matching FailJob rule at index 0",
    )
    policy = {"rules": [{"succeededIndexes": "1", "succeededCount": 1}]}
    await jobs.create("leader", completions=2, parallelism=2, completionMode="Indexed", successPolicy=policy)
    _, one = await jobs.active("leader", 2)
    await jobs.finish(one, 0)
    complete = await jobs.condition("leader", "Complete")
    assert (complete["reason"], complete["message"]) == ("SuccessPolicy", "Matched rules at index 0")
    status = summary((await jobs.get("leader"))["status"])
    assert (status["succeeded"], status["completedIndexes"], status.get("failed")) == (1, "1", None)


async def test_a_suspended_job_gives_its_pods_up_and_starts_anew(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    jobs = Jobs(server, namespace)
    await jobs.create("pausing", completions=2, parallelism=2)
    await jobs.active("pausing", 2)
    (await server.http.merge(f"{jobs.path}/pausing", {"spec": {"suspend": True}})).ok()
    suspended = await jobs.condition("pausing", "Suspended")
    assert (suspended["reason"], suspended["message"]) == ("JobSuspended", "Job suspended")

    async def idle() -> Object | None:
        status = (await jobs.get("pausing"))["status"]
        return status if not status.get("terminating") and not await jobs.pods("pausing") else None

    status = await eventually(idle, "no pod is left")
    assert "startTime" not in status and "failed" not in status
    (await server.http.merge(f"{jobs.path}/pausing", {"spec": {"suspend": False}})).ok()
    await jobs.active("pausing", 2)
    status = (await jobs.get("pausing"))["status"]
    assert summary(status)["conditions"] == [("Suspended", "False", "JobResumed", "Job resumed")]
    assert status["startTime"]


async def test_a_finished_job_goes_after_its_time(server: Server, namespace: str, nodes: list[str]) -> None:
    jobs = Jobs(server, namespace)
    await jobs.create("brief", "0", ttlSecondsAfterFinished=0)

    async def gone() -> bool:
        return (await server.http.get(f"{jobs.path}/brief")).code == 404 and not await jobs.pods("brief")

    await eventually(gone, "the job and its pods are gone")


async def test_the_events_of_a_job_have_the_same_words(
    server: Server, namespace: str, nodes: list[str]
) -> None:
    jobs = Jobs(server, namespace)
    await jobs.create("talks", "0")
    await jobs.condition("talks", "Complete")
    (pod,) = await jobs.pods("talks")

    async def told() -> Object | None:
        path = f"/api/v1/namespaces/{namespace}/events"
        found = (await server.http.get(path, fieldSelector="involvedObject.name=talks")).ok()["items"]
        return {one["reason"]: (one["type"], one["message"]) for one in found} if len(found) >= 2 else None

    assert await eventually(told, "there are events") == {
        "SuccessfulCreate": ("Normal", f"Created pod: {pod['metadata']['name']}"),
        "Completed": ("Normal", "Job completed"),
    }


async def test_a_suspended_job_may_be_told_where_to_run(server: Server, namespace: str) -> None:
    jobs = Jobs(server, namespace)
    await jobs.create("queued", suspend=True)
    path = f"{jobs.path}/queued"
    place = {"nodeSelector": {"rack": "r1"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    container = {"name": "c", "image": "busybox:1", "resources": {"requests": {"cpu": "1"}}}
    template = {"metadata": {"labels": {"queue": "a"}}, "spec": {**place, "containers": [container]}}
    (await server.http.merge(path, {"spec": {"template": template}})).ok()
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "other:1"}]}}}}
    assert (await server.http.merge(path, changed)).code == 422
    (await server.http.merge(path, {"spec": {"suspend": False}})).ok()
    refused = await server.http.merge(
        path, {"spec": {"template": {"spec": {"nodeSelector": {"rack": "r2"}}}}}
    )
    assert refused.code == 422
    assert {cause["field"] for cause in refused.json["details"]["causes"]} == {"spec.template"}


async def test_limits_that_do_not_fit_together_are_refused_with_the_same_words(
    server: Server, namespace: str
) -> None:
    jobs = Jobs(server, namespace)
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1"}]}}
    indexed = {"completionMode": "Indexed", "completions": 2, "template": template}
    rules = {"rules": [{"succeededCount": 3}]}
    for spec, field, message in (
        (
            {"maxFailedIndexes": 1},
            "spec.backoffLimitPerIndex",
            "Required value: when maxFailedIndexes is specified",
        ),
        (
            {"maxFailedIndexes": 3, "backoffLimitPerIndex": 1},
            "spec.maxFailedIndexes",
            "Invalid value: 3: must be less than or equal to completions",
        ),
        (
            {"successPolicy": rules},
            "spec.successPolicy.rules[0].succeededCount",
            "Invalid value: 3: must be less than or equal to 2 (the number of specified completions)",
        ),
        (
            {"podReplacementPolicy": "Never"},
            "spec.podReplacementPolicy",
            'Unsupported value: "Never": supported values: "Failed", "TerminatingOrFailed"',
        ),
    ):
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "bad"},
            "spec": {**indexed, **spec},
        }
        answer = await server.http.create(jobs.path, body)
        assert answer.code == 422, answer.body
        causes = {cause["field"]: cause["message"] for cause in answer.json["details"]["causes"]}
        assert causes == {field: message}
    await jobs.create("fixed", completions=2, parallelism=1, completionMode="Indexed", suspend=True)
    answer = await server.http.merge(f"{jobs.path}/fixed", {"spec": {"completions": 3}})
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["message"] == (
        "Invalid value: 3: can only be modified in tandem with spec.parallelism"
    )
    (await server.http.merge(f"{jobs.path}/fixed", {"spec": {"completions": 3, "parallelism": 3}})).ok()
