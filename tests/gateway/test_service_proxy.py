"""Cluster addresses of Services, carried by a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kajitori.laptop.services import plan_services
from tests.gateway.workbench import Workbench, free_port, observe, running_workbench
from tests.stand_ins import serving
from tests.waiting import eventually


def service(name: str, address: str, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": address, "ports": list(ports), **spec},
    }


def endpoints(
    name: str, port_name: str, *places: tuple[str, int], ready: bool = True
) -> list[dict[str, Any]]:
    return [
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-{number}", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
            "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        }
        for number, (address, port) in enumerate(places)
    ]


@contextlib.asynccontextmanager
async def echo(address: str, text: str) -> AsyncIterator[int]:
    """A server that says who it is and then repeats what it hears."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text.encode() + b"\n")
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async with serving(serve, address) as port:
        yield port


def carry(bench: Workbench, *documents: dict[str, Any], **options: Any) -> Any:
    observed = observe(*documents)
    plan = plan_services(observed.services, observed.endpoint_slices, rejected=bench.ads.rejected, **options)
    bench.set_resources("services", plan.resources)
    return plan


async def greeting(address: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(address, port)
    line = await reader.readline()
    writer.close()
    return line.decode().strip()


@pytest.fixture
async def proxy() -> AsyncIterator[Workbench]:
    async with running_workbench(("services",)) as found:
        yield found


# Of this process alone, so that tests may run side by side.
ADDRESS = f"127.254.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}"


async def test_connections_are_spread_over_ready_endpoints_of_the_named_port(proxy: Workbench) -> None:
    async with echo("127.0.0.2", "one") as one, echo("127.0.0.3", "two") as two:
        port = free_port(ADDRESS)
        documents = [
            service("web", ADDRESS, {"name": "http", "port": port, "targetPort": "web"}),
            *endpoints("web", "http", ("127.0.0.2", one), ("127.0.0.3", two)),
            *endpoints("other", "http", ("127.0.0.4", 1)),
        ]
        assert not carry(proxy, *documents).warnings
        await proxy.settled()
        seen = {await greeting(ADDRESS, port) for _ in range(40)}
        assert seen == {"one", "two"}


async def test_an_open_connection_outlives_changes_of_other_endpoints_and_services(proxy: Workbench) -> None:
    async with echo("127.0.0.2", "one") as one, echo("127.0.0.3", "two") as two:
        port = free_port(ADDRESS)
        web = service("web", ADDRESS, {"port": port})
        carry(proxy, web, *endpoints("web", "", ("127.0.0.2", one)))
        await proxy.settled()
        reader, writer = await asyncio.open_connection(ADDRESS, port)
        assert await reader.readline() == b"one\n"
        for number in range(5):
            other = service(f"other-{number}", ADDRESS, {"port": free_port(ADDRESS)})
            carry(proxy, web, other, *endpoints("web", "", ("127.0.0.2", one), ("127.0.0.3", two)))
            await proxy.settled()
            writer.write(b"still here\n")
            assert await reader.readline() == b"still here\n"
        # What is no longer ready gets nothing new.
        carry(proxy, web, *endpoints("web", "", ("127.0.0.3", two)))
        await proxy.settled()
        assert {await greeting(ADDRESS, port) for _ in range(10)} == {"two"}
        writer.close()


async def test_client_affinity_keeps_a_client_at_its_endpoint(proxy: Workbench) -> None:
    async with echo("127.0.0.2", "one") as one, echo("127.0.0.3", "two") as two:
        port = free_port(ADDRESS)
        sticky = service("web", ADDRESS, {"port": port}, sessionAffinity="ClientIP")
        carry(proxy, sticky, *endpoints("web", "", ("127.0.0.2", one), ("127.0.0.3", two)))
        await proxy.settled()
        assert len({await greeting(ADDRESS, port) for _ in range(20)}) == 1


async def test_without_a_ready_endpoint_the_connection_is_closed_at_once(proxy: Workbench) -> None:
    port = free_port(ADDRESS)
    web = service("web", ADDRESS, {"port": port})
    carry(proxy, web, *endpoints("web", "", ("127.0.0.2", 1), ready=False))
    await proxy.settled()
    with contextlib.suppress(ConnectionError):
        assert await greeting(ADDRESS, port) == ""


async def test_an_address_that_is_taken_is_told_at_its_service(proxy: Workbench) -> None:
    async with echo(ADDRESS, "taken") as port:
        web = service("web", ADDRESS, {"port": port})
        carry(proxy, web)
        await eventually(lambda: proxy.ads.rejected)
        plan = carry(proxy, web)
        assert "in use" in plan.warnings["default", "web"][0].message


def test_what_a_laptop_cannot_carry_is_named() -> None:
    observed = observe(
        service("dns", "127.31.0.10", {"port": 53, "protocol": "UDP"}, {"port": 53, "name": "tcp"}),
        service("lb", "127.31.0.11", {"port": 8080}, type="LoadBalancer"),
        service("headless", "None", {"port": 8080}),
        service("nameless", "", {"port": 8080}),
    )
    plan = plan_services(observed.services, observed.endpoint_slices, lowest_port=1024)
    codes = {key[1]: [reason.code for reason in reasons] for key, reasons in plan.warnings.items()}
    assert codes == {"dns": ["ProtocolNotHonoured", "PrivilegedPort"], "lb": ["TypeNotHonoured"]}
    assert [name for items in plan.resources.by_type.values() for name in items] == [
        "proxy/default/lb/8080"
    ] * 3
