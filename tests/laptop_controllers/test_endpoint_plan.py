import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.api.kubernetes.core_v1 import ContainerPort, PodCondition, PodIP, ServicePort
from kajitori.control.cache import Metadata
from kajitori.laptop.controllers.endpoint_slices.plan import groups, plan_slices, plan_subsets, target_port
from kajitori.laptop.controllers.views import (
    ContainerView,
    EndpointSliceView,
    PodSpecView,
    PodStatusView,
    PodView,
    ServiceSpecView,
    ServiceView,
)


def service(*ports, **spec):
    metadata = Metadata(name="web", namespace="default", uid="s", labels={"team": "a"})
    return ServiceView(
        metadata=metadata, spec=ServiceSpecView(selector={"app": "web"}, ports=list(ports), **spec)
    )


def pod(name, ip="127.16.0.9", *, ready=True, deleting=False, phase="Running", ports=(), **spec):
    return PodView(
        metadata=Metadata(
            name=name, namespace="default", uid=f"uid-{name}", labels={"app": "web"}, deletion_timestamp="2026-01-01T00:00:00Z" if deleting else None
        ),
        spec=PodSpecView(node_name="n1", containers=[ContainerView(name="c", ports=list(ports))], **spec),
        status=PodStatusView(
            phase=phase, pod_ip=ip, pod_ips=[PodIP(ip=ip)] if ip else [], conditions=[PodCondition(type="Ready", status=str(ready))]
        ),
    )  # fmt: skip


def found(svc, *pods):
    return groups(svc, pods, lambda node: "zone-a")


HTTP = ServicePort(name="http", port=80, target_port=8080, protocol="TCP")


def test_an_endpoint_says_where_it_is_and_how_it_does():
    (group,) = found(service(HTTP), pod("a"), pod("b", ready=False), pod("c", deleting=True))
    assert group.ports == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    states = {e["targetRef"]["name"]: tuple(e["conditions"].values()) for e in group.endpoints}
    assert states == {"a": (True, True, False), "b": (False, False, False), "c": (False, True, True)}
    assert group.endpoints[0]["nodeName"] == "n1" and group.endpoints[0]["zone"] == "zone-a"


def test_pods_that_have_ended_or_have_no_address_are_no_endpoints():
    assert found(service(HTTP), pod("a", phase="Succeeded"), pod("b", phase="Failed"), pod("c", ip="")) == []


def test_what_is_not_ready_is_published_where_asked_for():
    (group,) = found(
        service(HTTP, publish_not_ready_addresses=True), pod("a", ready=False), pod("b", deleting=True)
    )
    assert all(e["conditions"]["ready"] for e in group.endpoints)
    ((subset,), _) = plan_subsets([group], publish_not_ready=True)
    assert len(subset["addresses"]) == 2


def test_a_named_port_is_looked_up_in_each_pod_and_groups_those_that_agree():
    named = ServicePort(name="http", port=80, target_port="web", protocol="TCP")
    old = pod("old", ports=[ContainerPort(name="web", container_port=8000)])
    new = pod("new", ports=[ContainerPort(name="web", container_port=9000)])
    without = pod("without")
    by_port = {
        g.ports[0]["port"] if g.ports else None: [e["targetRef"]["name"] for e in g.endpoints]
        for g in found(service(named), old, new, without)
    }
    assert by_port == {8000: ["old"], 9000: ["new"], None: ["without"]}
    assert target_port(ServicePort(port=80), old) == 80


def test_pods_of_a_headless_service_have_names_of_their_own():
    svc = service(cluster_ip="None")
    (group,) = found(svc, pod("a", hostname="a", subdomain="web"), pod("b", hostname="b", subdomain="other"))
    assert [e.get("hostname") for e in group.endpoints] == ["a", None]
    (body,) = plan_slices(svc, [group], []).create
    assert body["metadata"]["labels"] == {
        "team": "a", "kubernetes.io/service-name": "web", "service.kubernetes.io/headless": "",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }  # fmt: skip
    assert body["ports"] == []


def test_the_legacy_form_keeps_ready_and_not_ready_apart_and_leaves_out_what_ends():
    (group,) = found(service(HTTP), pod("a"), pod("b", ready=False), pod("c", deleting=True))
    ((subset,), _) = plan_subsets([group], publish_not_ready=False)
    assert [a["targetRef"]["name"] for a in subset["addresses"]] == ["a"]
    assert [a["targetRef"]["name"] for a in subset["notReadyAddresses"]] == ["b"]


def test_the_legacy_form_holds_a_thousand_addresses_and_says_if_there_are_more():
    pods = [pod(f"p{n:04}", f"127.16.{n // 250}.{n % 250 + 1}") for n in range(1100)]
    (subset,), truncated = plan_subsets(found(service(HTTP), *pods), publish_not_ready=False)
    assert truncated and len(subset["addresses"]) == 1000


class Stored:
    """Slices as a server would keep them."""

    def __init__(self):
        self.slices = {}
        self.writes = 0

    def apply(self, changes):
        for body in [*changes.create, *(body for _, body in changes.update)]:
            metadata = body["metadata"]
            self.slices[metadata["name"]] = EndpointSliceView(
                metadata=Metadata(name=metadata["name"], namespace="default", labels=metadata["labels"]),
                address_type=body["addressType"], endpoints=body["endpoints"], ports=body["ports"],
            )  # fmt: skip
        for one in changes.delete:
            del self.slices[one.metadata.name]
        self.writes += len(changes.create) + len(changes.update) + len(changes.delete)

    @property
    def views(self):
        return list(self.slices.values())


def test_a_single_change_among_a_thousand_pods_writes_one_slice():
    svc, stored = service(HTTP), Stored()
    pods = [pod(f"p{n:04}", f"127.16.{n // 250}.{n % 250 + 1}") for n in range(1000)]
    stored.apply(plan_slices(svc, found(svc, *pods), []))
    assert len(stored.slices) == 10
    stored.writes = 0
    pods[500] = pod("p0500", "127.16.2.1", ready=False)
    stored.apply(plan_slices(svc, found(svc, *pods), stored.views))
    assert stored.writes == 1
    stored.apply(plan_slices(svc, found(svc, *pods), stored.views))
    assert stored.writes == 1, "nothing changed, nothing is written"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_pods_come_and_go_the_slices_say_exactly_which_there_are(seed):
    chance, stored, present = random.Random(seed), Stored(), {}
    svc = service(HTTP, ServicePort(name="m", port=90, target_port="metrics"))
    for _ in range(12):
        for _ in range(chance.randint(1, 120)):
            name = f"p{chance.randrange(400):03}"
            if chance.random() < 0.4:
                present.pop(name, None)
            else:
                ports = (
                    [ContainerPort(name="metrics", container_port=chance.choice([9, 10]))]
                    if chance.random() < 0.8
                    else []
                )
                number = int(name[1:])
                present[name] = pod(
                    name,
                    f"127.16.{number // 200}.{number % 200 + 1}",
                    ready=chance.random() < 0.5,
                    ports=ports,
                )
        wanted = found(svc, *present.values())
        stored.apply(plan_slices(svc, wanted, stored.views))
        told = [
            (e["targetRef"]["name"], e["conditions"]["ready"], str(one.ports))
            for one in stored.views
            for e in one.endpoints
        ]
        assert sorted(told) == sorted(
            (e["targetRef"]["name"], e["conditions"]["ready"], str(g.ports))
            for g in wanted
            for e in g.endpoints
        )
        assert all(0 < len(one.endpoints) <= 100 for one in stored.views)
        before = stored.writes
        stored.apply(plan_slices(svc, wanted, stored.views))
        assert stored.writes == before
