"""A cluster in a dict, for plans: it does what a plan asks, and its pods do what a test asks."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import msgspec

from kajitori.api.leaderworkerset import v1
from kajitori.base.clock import rfc3339, rfc3339_micro
from kajitori.groups.leader_worker_sets.actions import (
    AnnotateRevision,
    BeginDrain,
    CallOffDrain,
    CreateRevision,
    CreateService,
    DeleteClaim,
    DeleteRevision,
    DeleteService,
    MarkComplete,
    MendService,
    NoteOnLeader,
    OwnClaim,
    Plan,
    SetGroupReady,
)
from kajitori.groups.leader_worker_sets.observed import (
    COMPLETE_ANNOTATION,
    DRAINING_ANNOTATION,
    Claim,
    Pod,
    Revision,
    Service,
    World,
)
from kajitori.groups.leader_worker_sets.plan import plan_set

START = 1_700_000_000.0


def container(name: str = "engine", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox:1", **fields}


def template(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers) or [container()], **spec}}


def a_set(
    name: str = "x", *, replicas: int = 2, size: int = 3, uid: str = "set-1", **fields: Any
) -> dict[str, Any]:
    """A LeaderWorkerSet as its CRD's defaults would complete it. fields: of spec, or of the template if they are its."""
    own = (
        "leaderTemplate",
        "workerTemplate",
        "restartPolicy",
        "subGroupPolicy",
        "volumeClaimTemplates",
        "persistentVolumeClaimRetentionPolicy",
    )
    group = {"workerTemplate": template(), "size": size} | {
        key: fields.pop(key) for key in own if key in fields
    }
    annotations = fields.pop("annotations", {})
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid,
            "generation": 1,
            "annotations": annotations,
        },
        "spec": {
            "replicas": replicas,
            "leaderWorkerTemplate": group,
            "networkConfig": {"subdomainPolicy": "Shared"},
        }
        | fields,
    }


class PlannedCluster:
    """One set, and what plans make for it."""

    def __init__(self, lws: dict[str, Any]) -> None:
        self.lws = copy.deepcopy(lws)
        self.pods: dict[str, dict[str, Any]] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, dict[str, Any]] = {}
        self.claims: dict[str, dict[str, Any]] = {}
        self.now = START
        self.memory: dict[str, Any] = {"restarts": {}, "taken": {}}
        self.events: list[tuple[str, str]] = []
        self.created: list[str] = []
        self.lingering = True
        self.slow_nodes = False
        self._uids = itertools.count(1)
        self._tokens = itertools.count(1)

    # What the controller does

    def world(self, **changes: Any) -> World:
        return World(
            set=msgspec.convert(self.lws, v1.LeaderWorkerSet),
            pods=[msgspec.convert(pod, Pod) for pod in self.pods.values()],
            services=[msgspec.convert(service, Service) for service in self.services.values()],
            revisions=[msgspec.convert(revision, Revision) for revision in self.revisions.values()],
            claims=[msgspec.convert(claim, Claim) for claim in self.claims.values()],
            now=self.now,
            token=f"token{next(self._tokens)}",
            **(self.memory | changes),
        )

    def reconcile(self, steps: int | None = None) -> Plan:
        """Plan and carry out; of the actions only the first `steps` if given, as a controller that dies then."""
        plan = plan_set(self.world())
        left = itertools.count() if steps is None else iter(range(steps))
        for action in (*plan.before, *plan.deletes, *plan.creates, *plan.after):
            if next(left, None) is None:
                self.memory = {"restarts": {}, "taken": {}}
                return plan
            self._do(action)
        self.memory |= {"restarts": plan.restarts, "lives": plan.lives, "command_failures": {}}
        self.events += [(event.reason, event.text()) for event in plan.events]
        status = msgspec.to_builtins(plan.status)
        self.lws["status"] = status
        return plan

    def _do(self, action: Any) -> None:
        match action:
            case CreateService(body):
                self._create(self.services, body)
            case MendService(service, spec):
                self.services[service.metadata.name]["spec"] = spec
            case DeleteService(service):
                del self.services[service.metadata.name]
            case CreateRevision(body):
                self._create(self.revisions, body)
            case AnnotateRevision(revision, annotations, number):
                stored = self.revisions[revision.metadata.name]
                stored["metadata"].setdefault("annotations", {}).update(annotations)
                if number is not None:
                    stored["revision"] = number
            case DeleteRevision(revision):
                del self.revisions[revision.metadata.name]
            case MarkComplete() | NoteOnLeader() | SetGroupReady() | BeginDrain() | CallOffDrain():
                self._note(action)
            case DeleteClaim(claim):
                del self.claims[claim.metadata.name]
            case OwnClaim(claim, owners):
                self.claims[claim.metadata.name]["metadata"]["ownerReferences"] = owners
            case _ if hasattr(action, "body"):
                for claim in action.claims:
                    if claim["metadata"]["name"] not in self.claims:
                        self._create(self.claims, claim)
                self._create(self.pods, action.body)
                self.created.append(action.name)
            case _:
                self.delete(action.pod.name, uid=action.pod.metadata.uid)

    def _note(self, action: Any) -> None:
        """What is written on a leader."""
        match action:
            case MarkComplete(leader):
                self.pods[leader.name]["metadata"]["annotations"][COMPLETE_ANNOTATION] = "true"
            case NoteOnLeader(leader, _, annotations, restart, because):
                noted = self.pods[leader.name]["metadata"]["annotations"]
                noted |= annotations | ({because: restart.blame.sentence()} if restart else {})
                for key in [key for key, value in noted.items() if value is None]:
                    del noted[key]
            case SetGroupReady(leader, gate, ready):
                self.pods[leader.name].setdefault("gates", {})[gate] = ready
                if not self.slow_nodes:
                    self._show_gates(self.pods[leader.name])
            case BeginDrain(leader, gate, since):
                self.pods[leader.name]["metadata"]["annotations"][DRAINING_ANNOTATION] = rfc3339_micro(since)
                self._note(SetGroupReady(leader, gate, False, "Draining", ""))
            case CallOffDrain(leader):
                del self.pods[leader.name]["metadata"]["annotations"][DRAINING_ANNOTATION]
            case _:
                raise AssertionError(action)

    def _create(self, where: dict[str, dict[str, Any]], body: dict[str, Any]) -> None:
        body = copy.deepcopy(body)
        name = body["metadata"]["name"]
        assert name not in where, f"{name} exists already"
        body["metadata"] |= {"uid": f"uid-{next(self._uids)}", "creationTimestamp": rfc3339(self.now)}
        where[name] = body

    # What users and nodes do

    def delete(self, name: str, uid: str = "") -> None:
        """As the API server would: a pod that runs lingers until `bury`, one that does not is gone."""
        pod = self.pods[name]
        assert not uid or pod["metadata"]["uid"] == uid
        if self.lingering and "status" in pod:
            pod["metadata"].setdefault("deletionTimestamp", rfc3339(self.now))
            pod["metadata"]["deletionGracePeriodSeconds"] = 0
        else:
            del self.pods[name]

    def bury(self) -> None:
        """Nodes have ended every pod that was to be deleted."""
        self.pods = {
            name: pod for name, pod in self.pods.items() if "deletionTimestamp" not in pod["metadata"]
        }

    def run(self, name: str, *, ready: bool = True, restarts: int = 0, exit_code: int = 0) -> None:
        """The node runs the pod."""
        if "deletionTimestamp" in self.pods[name]["metadata"]:
            return
        last = {"terminated": {"exitCode": exit_code, "reason": "Error", "finishedAt": rfc3339(self.now)}}
        self.pods[name]["spec"]["nodeName"] = "node-1"
        self.pods[name]["status"] = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [
                {
                    "name": "engine",
                    "restartCount": restarts,
                    "state": {"running": {}},
                    "lastState": last if restarts else {},
                }
            ],
        }
        if ready:
            self.pods[name]["status"]["conditions"].append({"type": "ContainersReady", "status": "True"})
        self._show_gates(self.pods[name])

    def _show_gates(self, pod: dict[str, Any]) -> None:
        """What was written of readiness gates stays, and a pod is not ready before all of them are."""
        gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", ())]
        conditions = pod.get("status", {}).get("conditions", [])
        if not gates or not conditions:
            return
        written = pod.get("gates", {})
        states = {one["type"]: one["status"] == "True" for one in conditions} | written
        states["Ready"] = states.get("ContainersReady", False) and all(written.get(gate) for gate in gates)
        pod["status"]["conditions"] = [
            {"type": kind, "status": "True" if state else "False"} for kind, state in states.items()
        ]

    def run_all(self) -> None:
        for name in self.pods:
            self.run(name)

    @property
    def wanted_groups(self) -> int:
        return self.lws["spec"]["replicas"]

    def settle(self, rounds: int = 60) -> PlannedCluster:
        """Nodes and controller take turns until nothing more is asked for."""
        for _ in range(rounds):
            plan = self.reconcile()
            idle = not (plan.before or plan.deletes or plan.creates or plan.after)
            pending = any("deletionTimestamp" in pod["metadata"] for pod in self.pods.values())
            waiting = plan.again_after_seconds is not None
            if idle and not pending and not waiting and plan.status.ready_replicas == self.wanted_groups:
                self.reconcile()
                return self
            self.now += max(1.0, plan.again_after_seconds or 0.0)
            self.bury()
            self.run_all()
        raise AssertionError("never settles")

    # What tests look at

    def uids(self, group: int) -> dict[str, str]:
        prefix = f"{self.lws['metadata']['name']}-{group}"
        return {
            name: pod["metadata"]["uid"]
            for name, pod in self.pods.items()
            if name == prefix or name.startswith(prefix + "-")
        }

    def conditions(self) -> dict[str, str]:
        return {one["type"]: one["status"] for one in self.lws.get("status", {}).get("conditions", ())}

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.events]

    def labels(self, name: str) -> dict[str, str]:
        return {
            key.removeprefix(v1.PREFIX): value for key, value in self.pods[name]["metadata"]["labels"].items()
        }

    def env(self, name: str, index: int = 0) -> dict[str, str]:
        return {one["name"]: one["value"] for one in self.pods[name]["spec"]["containers"][index]["env"]}
