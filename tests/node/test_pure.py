"""Restarts, addresses, names, statuses, payloads and log lines, without processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kajitori.api.kubernetes.core_v1 import Container, PodSpec, PodStatus, Probe, Volume
from kajitori.base.errors import Infeasible
from kajitori.laptop.node.addresses import AddressPool, DevicePool
from kajitori.laptop.node.environment import Service
from kajitori.laptop.node.hosts import EndpointSlice, own_names, render_hosts, service_names, with_aliases
from kajitori.laptop.node.logs import LogOptions, last_lines, read_log
from kajitori.laptop.node.names import _write_in_place as write_in_place
from kajitori.laptop.node.payload import File, write_payload
from kajitori.laptop.node.probes import ProbeCounter
from kajitori.laptop.node.references import MissingSource
from kajitori.laptop.node.restarts import BackOff, restarts
from kajitori.laptop.node.runtime.logfile import LogFile
from kajitori.laptop.node.status import (
    ContainerView,
    PodView,
    Running,
    Terminated,
    Waiting,
    differs,
    phase_of,
    pod_status,
)
from kajitori.laptop.node.volumes import Place, VolumeError, container_mounts

NOW = 1_800_000_000.0


# Restarts


def test_the_back_off_doubles_up_to_its_bound_and_is_forgiven_after_a_long_run() -> None:
    back_off = BackOff()
    waits = [back_off.next_wait_seconds(1.0) for _ in range(8)]
    assert waits == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    assert back_off.next_wait_seconds(600.0) == 0.0


@pytest.mark.parametrize(
    ("kind", "policy", "code", "again"),
    [
        ("main", "Always", 0, True),
        ("main", "Always", 1, True),
        ("main", "OnFailure", 0, False),
        ("main", "OnFailure", 1, True),
        ("main", "Never", 1, False),
        ("init", "Always", 0, False),
        ("init", "Always", 1, True),
        ("init", "Never", 1, False),
        ("sidecar", "Never", 0, True),
    ],
)
def test_restart_policies(kind: str, policy: str, code: int, again: bool) -> None:
    assert restarts(Container(name="c"), kind, policy, code) is again


def test_restart_rules_of_a_container_come_first() -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    container = msgspec.convert({"name": "c", "restartPolicyRules": [rule]}, Container)
    assert restarts(container, "main", "Never", 42)
    assert not restarts(container, "main", "Never", 1)


# Probes


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_a_probe_changes_its_result_only_after_its_threshold(
    outcomes: list[bool], successes: int, failures: int
) -> None:
    counter = ProbeCounter(Probe(success_threshold=successes, failure_threshold=failures), initial=True)
    for index, outcome in enumerate(outcomes):
        before = counter.healthy
        changed = counter.count(outcome)
        assert changed == (before != counter.healthy)
        if changed:
            threshold = successes if outcome else failures
            assert outcomes[index + 1 - threshold : index + 1] == [outcome] * threshold


# Addresses and devices


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_no_two_pods_ever_share_an_address(steps: list[tuple[bool, int]]) -> None:
    pool = AddressPool("127.16.0.0/29")
    held: dict[str, str] = {}
    for take, number in steps:
        owner = f"pod-{number}"
        if not take:
            pool.release(owner)
            held.pop(owner, None)
            continue
        try:
            held[owner] = pool.take(owner)
        except Infeasible:
            assert len(held) == 6
            continue
        assert len(set(held.values())) == len(held)
        assert held[owner] not in ("127.16.0.0", "127.16.0.7")
    assert len(pool) == len(held)


def test_an_address_is_not_used_again_at_once_and_a_wanted_one_is_given() -> None:
    pool = AddressPool("127.16.0.0/24")
    first = pool.take("a")
    pool.release("a")
    assert pool.take("b") != first
    assert pool.take("c", wanted=first) == first
    assert pool.take("d", wanted=first) not in ("", first)
    assert pool.take("e", wanted="10.0.0.1").startswith("127.16.0.")


def test_devices_are_given_once_and_come_back() -> None:
    pool = DevicePool(4)
    assert pool.take("a", 2) == [0, 1]
    assert pool.take("a", 2) == [0, 1]
    assert pool.take("b", 2, wanted=[3]) == [2, 3]
    with pytest.raises(Infeasible, match="requested 1 GPUs, 0 of 4 are free"):
        pool.take("c", 1)
    pool.release("a")
    assert pool.take("c", 1) == [0]


# Names


def service(name: str, namespace: str = "default", ip: str = "None", **spec: Any) -> Service:
    body = {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, **spec}}
    return msgspec.convert(body, Service)


def endpoint_slice(name: str, *endpoints: dict[str, Any], namespace: str = "default") -> EndpointSlice:
    labels = {"kubernetes.io/service-name": name}
    metadata = {"name": f"{name}-1", "namespace": namespace, "labels": labels}
    return msgspec.convert({"metadata": metadata, "endpoints": list(endpoints)}, EndpointSlice)


def lookup(text: str, name: str) -> list[str]:
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [line[0] for line in lines if name in line[1:]]


def test_short_names_belong_to_the_namespace_and_long_ones_to_all() -> None:
    names = service_names([service("db", "a", "127.31.0.1"), service("db", "b", "127.31.0.2")], [])
    text = render_hosts("a", names, [("127.16.0.1", ["web-0"])])
    assert lookup(text, "db") == ["127.31.0.1"]
    assert lookup(text, "db.b") == lookup(text, "db.b.svc.cluster.local") == ["127.31.0.2"]
    assert lookup(text, "web-0") == ["127.16.0.1"]
    assert lookup(text, "localhost") == ["127.0.0.1"]


def test_headless_services_name_their_ready_endpoints_and_hostnames() -> None:
    endpoints = [
        {"addresses": ["127.16.0.1"], "hostname": "g-0", "conditions": {"ready": True}},
        {"addresses": ["127.16.0.2"], "hostname": "g-1", "conditions": {"ready": False}},
        {"addresses": ["127.16.0.3"]},
    ]
    text = render_hosts("default", service_names([service("g")], [endpoint_slice("g", *endpoints)]), [])
    assert lookup(text, "g") == ["127.16.0.1", "127.16.0.3"]
    assert lookup(text, "g-0.g.default.svc.cluster.local") == ["127.16.0.1"]
    assert lookup(text, "g-1.g") == []
    eager = service("g", publishNotReadyAddresses=True)
    text = render_hosts("default", service_names([eager], [endpoint_slice("g", *endpoints)]), [])
    assert lookup(text, "g-1.g") == ["127.16.0.2"]


def test_the_size_of_a_hosts_file_grows_with_its_names_only() -> None:
    def size(count: int) -> int:
        endpoints = [{"addresses": [f"127.16.1.{n}"], "hostname": f"g-{n:03}"} for n in range(count)]
        return len(render_hosts("x", service_names([service("g")], [endpoint_slice("g", *endpoints)]), []))

    assert size(200) - size(100) == pytest.approx(size(100) - size(0), rel=0.05)


def test_own_names_have_the_full_one_first() -> None:
    assert own_names("w", "", "ns") == ["w"]
    assert own_names("w", "g", "ns") == ["w.g.ns.svc.cluster.local", "w"]
    assert with_aliases("text\n", [("1.2.3.4", ["a", "b"])]) == "text\n1.2.3.4 a b\n"


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_is_rewritten_in_place_keeps_its_inode(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "hosts"
    write_in_place(path, "first")
    inode = path.stat().st_ino
    for text in texts:
        write_in_place(path, text)
        assert path.read_bytes() == text.encode()
    assert path.stat().st_ino == inode


# Status


def container(name: str = "c", kind: str = "main", state: Any = None, last: Any = None, ready: bool = False):
    return ContainerView(
        name, kind, "i", "", "", state or Waiting("ContainerCreating"), last, 0, ready, ready
    )


def view(*containers: ContainerView, policy: str = "Always", failure: Any = None) -> PodView:
    return PodView(list(containers), True, "127.16.0.1", "127.0.0.1", NOW, failure, policy)


GOOD, BAD = Terminated(0, "Completed"), Terminated(1, "Error")


@pytest.mark.parametrize(
    ("containers", "policy", "phase"),
    [
        ([container()], "Always", "Pending"),
        ([container(state=Running(NOW))], "Always", "Running"),
        ([container(state=Running(NOW)), container("d")], "Always", "Pending"),
        ([container(state=Waiting("CrashLoopBackOff"), last=BAD)], "Always", "Running"),
        ([container(state=GOOD)], "Always", "Running"),
        ([container(state=GOOD)], "OnFailure", "Succeeded"),
        ([container(state=BAD)], "OnFailure", "Running"),
        ([container(state=BAD)], "Never", "Failed"),
        ([container(state=BAD), container("d", state=Running(NOW))], "Never", "Running"),
        ([container(state=GOOD), container("d", state=BAD)], "Never", "Failed"),
        ([container("i", "init", BAD), container()], "Never", "Failed"),
        ([container("i", "init", BAD), container()], "Always", "Pending"),
        ([container("i", "init", GOOD), container(state=Running(NOW))], "Always", "Running"),
        ([container("s", "sidecar", BAD), container(state=GOOD)], "Never", "Succeeded"),
    ],
)
def test_phases(containers: list[ContainerView], policy: str, phase: str) -> None:
    assert phase_of(view(*containers, policy=policy)) == phase


def test_a_condition_keeps_its_time_until_it_changes_and_nothing_is_written_twice() -> None:
    spec = PodSpec()
    first = pod_status(view(container(state=Running(NOW), ready=False)), spec, [], NOW)
    current = msgspec.convert(first, PodStatus)
    again = pod_status(view(container(state=Running(NOW), ready=False)), spec, current.conditions, NOW + 60)
    assert not differs(again, current)
    assert again["conditions"] == first["conditions"]
    ready = pod_status(view(container(state=Running(NOW), ready=True)), spec, current.conditions, NOW + 60)
    assert differs(ready, current)
    by_type = {each["type"]: each for each in ready["conditions"]}
    assert by_type["Ready"]["lastTransitionTime"] == "2027-01-15T08:01:00Z"
    assert by_type["Initialized"]["lastTransitionTime"] == "2027-01-15T08:00:00Z"


def test_conditions_of_others_do_not_count_as_a_difference() -> None:
    wanted = pod_status(view(container(state=Running(NOW), ready=True)), PodSpec(), [], NOW)
    others = {
        **wanted,
        "conditions": [*wanted["conditions"], {"type": "PodScheduled", "status": "True"}],
        "qosClass": "x",
    }
    assert not differs(wanted, msgspec.convert(others, PodStatus))


# Payloads

paths = st.lists(st.sampled_from(["a", "b", "d/e", "d/f/g"]), max_size=4, unique=True).map(
    lambda chosen: {path: File(os.urandom(4), 0o640) for path in chosen}
)


@given(st.lists(paths, min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_a_payload_folder_holds_exactly_what_was_written_last(
    tmp_path_factory: Any, payloads: list[Any]
) -> None:
    folder: Path = tmp_path_factory.mktemp("payload")
    for payload in payloads:
        write_payload(folder, payload)
        seen = {
            str((Path(base) / name).relative_to(folder)): (Path(base) / name).read_bytes()
            for base, _, names in os.walk(folder, followlinks=True)
            for name in names
            if ".." not in base.removeprefix(str(folder))
        }
        assert seen == {path: file.content for path, file in payload.items()}
        assert not write_payload(folder, payload)
        assert len([entry for entry in folder.iterdir() if entry.name.startswith("..")]) == 2


def test_a_payload_may_not_leave_its_folder(tmp_path: Path) -> None:
    for path in ("../x", "/x", "a/../../x", "..data/x", "a//b"):
        with pytest.raises(MissingSource, match="must be relative and inside"):
            write_payload(tmp_path, {path: File(b"", 0o644)})


def test_sub_paths_stay_in_their_volume(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/link").symlink_to("/etc")
    places = {"v": Place(tmp_path / "volume")}

    def mounts(**mount: Any) -> Any:
        body = {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/m", **mount}]}
        return container_mounts(msgspec.convert(body, Container), places, {"POD": "p0"})

    assert mounts(subPathExpr="logs/$(POD)")[0]["source"] == str(tmp_path / "volume/logs/p0")
    assert (tmp_path / "volume/logs/p0").is_dir()
    for bad in ("link", "../x", "/abs"):
        with pytest.raises(VolumeError):
            mounts(subPath=bad)
    with pytest.raises(VolumeError, match="not defined"):
        mounts(subPathExpr="$(NONE)")
    with pytest.raises(VolumeError, match="names no volume"):
        container_mounts(
            msgspec.convert({"name": "c", "volumeMounts": [{"name": "w", "mountPath": "/m"}]}, Container),
            places,
            {},
        )


def test_only_known_volumes_are_understood() -> None:
    from kajitori.laptop.node.volumes import unsupported

    error = unsupported(msgspec.convert({"name": "v", "nfs": {"server": "s", "path": "/"}}, Volume))
    assert "(nfs)" in str(error)


# Logs


async def collect(path: Path, options: LogOptions) -> bytes:
    return b"".join([piece async for piece in read_log(path, options)])


@given(st.lists(st.binary(max_size=40), max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_what_is_logged_in_pieces_is_read_whole(tmp_path_factory: Any, pieces: list[bytes]) -> None:
    path: Path = tmp_path_factory.mktemp("log") / "0.log"
    log = LogFile(str(path))
    for piece in pieces:
        log.write("stdout", piece)
    log.close()
    assert asyncio.run(collect(path, LogOptions())) == b"".join(pieces)


@given(st.integers(0, 12), st.integers(0, 12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_the_tail_has_as_many_lines_as_asked_for(tmp_path_factory: Any, lines: int, tail: int) -> None:
    path: Path = tmp_path_factory.mktemp("log") / "0.log"
    log = LogFile(str(path), maximum_bytes=200)  # rotates after a few lines
    for number in range(lines):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    text = asyncio.run(collect(path, LogOptions(tail_lines=tail))).decode().splitlines()
    everything = asyncio.run(collect(path, LogOptions())).decode().splitlines()
    assert text == (everything[-tail:] if tail else [])


def test_a_long_line_is_kept_in_parts_and_joined_again(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path))
    long = b"x" * 50_000
    log.write("stdout", b"before\n" + long + b"\nafter\n")
    log.close()
    assert path.read_bytes().count(b" P ") == 3
    assert asyncio.run(collect(path, LogOptions())) == b"before\n" + long + b"\nafter\n"
    assert last_lines(path, 1) == "after\n"


def test_a_log_is_bounded(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "0.log"), maximum_bytes=10_000)
    for number in range(5_000):
        log.write("stderr", b"some text %d\n" % number)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * 10_000
    assert last_lines(tmp_path / "0.log", 1) == "some text 4999\n"


async def test_a_followed_log_survives_rotation(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), maximum_bytes=300)
    ended = asyncio.Event()
    pieces: list[bytes] = []

    async def follow() -> None:
        pieces.extend([piece async for piece in read_log(path, LogOptions(follow=True), ended)])

    task = asyncio.create_task(follow())
    for number in range(20):
        log.write("stdout", b"%d\n" % number)
        await asyncio.sleep(0.15 if number % 5 == 0 else 0)
    log.close()
    ended.set()
    await task
    assert b"".join(pieces).split() == [b"%d" % number for number in range(20)]
