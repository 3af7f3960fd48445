"""Certificates on request, and ranges for nodes that join: our own node asks, the embedded server's users too."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import datetime
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.laptop_controllers.conftest import World
from tests.waiting import PATIENCE_SECONDS, eventually

from kajitori.api.resource import NODES
from kajitori.app.node.rights import binding, grants
from kajitori.base.errors import Forbidden, Invalid, Unauthorized, Unreachable
from kajitori.kube.client import Client
from kajitori.laptop.apiserver import pki
from kajitori.laptop.controllers import certificates, node_ranges
from kajitori.laptop.controllers.certificates import plan
from kajitori.laptop.node.certificates import (
    CLIENT_SIGNER,
    SERVING_SIGNER,
    SIGNING_REQUESTS,
    NodeCertificates,
    client_file,
    make_key,
    obtain,
    read_certificate,
    renewal_time,
    request_object,
    serving_file,
    signing_request,
    write_private,
)


async def start(world: World) -> None:
    folder = world.server.home / "pki"
    await world.start(register=lambda runtime: certificates.register(runtime, folder))


def acting_as(client: Client, user: str, *groups: str) -> Client:
    who = (("Impersonate-User", user), *(("Impersonate-Group", group) for group in groups))
    return Client(dataclasses.replace(client.config, impersonate=who))


def with_pair(client: Client, pair: bytes) -> Client:
    return Client(dataclasses.replace(client.config, client_certificate=pair, client_key=pair))


async def settled(client: Client, name: str) -> dict[str, Any]:
    """The request once it has a condition."""

    async def answered() -> dict[str, Any] | None:
        request = await client.get(SIGNING_REQUESTS, name)
        return request if (request.get("status") or {}).get("conditions") else None

    return await eventually(answered, f"{name} has a condition")


async def test_a_node_gets_its_identity_and_serving_certificate(world: World, tmp_path: Path) -> None:
    await start(world)
    async with asyncio.timeout(PATIENCE_SECONDS):
        pair = await obtain(world.client, CLIENT_SIGNER, "guest")
    renewal = next(each for each in grants("guest") if "renewal" in each.name)
    await world.client.create(renewal.resource, binding(renewal, "guest"))
    async with with_pair(world.client, pair) as own:
        node = {
            "metadata": {"name": "guest"},
            "status": {
                "addresses": [
                    {"type": "InternalIP", "address": "127.0.0.1"},
                    {"type": "Hostname", "address": "guest"},
                ]
            },
        }
        await own.create(NODES, node)
        with pytest.raises(Forbidden):
            await own.create(NODES, {"metadata": {"name": "another"}})
        files = NodeCertificates(own, tmp_path, "guest", "127.0.0.1", lambda: None)
        running = asyncio.ensure_future(files.run())
        await asyncio.wait_for(files.serving_ready.wait(), PATIENCE_SECONDS)
        # There was no client certificate in the home, so that was renewed as well.
        await eventually(lambda: read_certificate(client_file(tmp_path), "guest"), "it is renewed")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    served = read_certificate(serving_file(tmp_path), "guest", "127.0.0.1")
    assert served is not None
    authority = x509.load_pem_x509_certificate((world.server.home / "pki" / "ca.crt").read_bytes())
    served.verify_directly_issued_by(authority)
    assert serving_file(tmp_path).stat().st_mode & 0o777 == 0o600


async def test_a_serving_certificate_for_other_addresses_waits_for_a_person(world: World) -> None:
    await start(world)
    async with acting_as(world.client, "system:node:guest", "system:nodes") as own:
        await own.create(NODES, {"metadata": {"name": "guest"}})
        body = request_object(signing_request(make_key(), "guest", "10.0.0.9"), SERVING_SIGNER, "guest")
        made = await own.create(SIGNING_REQUESTS, body)
        later = request_object(signing_request(make_key(), "guest"), CLIENT_SIGNER, "guest")
        with pytest.raises(Forbidden, match="can only create a node CSR with CN=system:node:guest"):
            wrong = request_object(signing_request(make_key(), "other"), CLIENT_SIGNER, "guest")
            await own.create(SIGNING_REQUESTS, wrong)
    # What is asked later is answered, by a person's word; what was asked first still waits.
    second = await world.client.create(SIGNING_REQUESTS, later)
    await settled(world.client, second["metadata"]["name"])
    first = await world.client.get(SIGNING_REQUESTS, made["metadata"]["name"])
    assert first["spec"]["username"] == "system:node:guest"
    assert not (first.get("status") or {}).get("conditions")
    first["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "Person"}]}
    await world.client.update(SIGNING_REQUESTS, first, subresource="approval")

    async def signed() -> str | None:
        request = await world.client.get(SIGNING_REQUESTS, first["metadata"]["name"])
        return request["status"].get("certificate")

    await eventually(signed, "what a person approved is signed")


async def test_who_has_no_right_to_ask_is_not_approved_and_nobody_becomes_a_master(world: World) -> None:
    await start(world)
    role = {
        "metadata": {"name": "asks"},
        "rules": [
            {
                "apiGroups": [SIGNING_REQUESTS.group],
                "resources": [SIGNING_REQUESTS.plural],
                "verbs": ["create", "get"],
            },
            {
                "apiGroups": [SIGNING_REQUESTS.group],
                "resources": [f"{SIGNING_REQUESTS.plural}/approval", f"{SIGNING_REQUESTS.plural}/status"],
                "verbs": ["update"],
            },
        ],
    }
    bound = {
        "metadata": {"name": "asks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "asks"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    }
    for plural, body in (("clusterroles", role), ("clusterrolebindings", bound)):
        path = f"/apis/rbac.authorization.k8s.io/v1/{plural}"
        await world.client.request("POST", path, body=body)
    async with acting_as(world.client, "jane") as jane:
        body = request_object(signing_request(make_key(), "guest"), CLIENT_SIGNER, "guest")
        body["spec"] |= {"username": "kubernetes-admin", "groups": ["system:masters"]}
        made = await jane.create(SIGNING_REQUESTS, body)
        assert (made["spec"]["username"], made["spec"]["groups"]) == ("jane", ["system:authenticated"])
        condition = {"type": "Approved", "status": "True", "reason": "Mine"}
        with pytest.raises(Forbidden, match="not permitted to approve requests with signerName"):
            changed = {**made, "status": {"conditions": [condition]}}
            await jane.update(SIGNING_REQUESTS, changed, subresource="approval")
        with pytest.raises(Forbidden, match="not permitted to sign requests with signerName"):
            changed = {**made, "status": {"certificate": base64.b64encode(b"mine").decode()}}
            await jane.update(SIGNING_REQUESTS, changed, subresource="status")
        broken = request_object(b"nonsense", CLIENT_SIGNER, "guest")
        with pytest.raises(Invalid, match="unable to parse csr"):
            await jane.create(SIGNING_REQUESTS, broken)
    # The admin's own is approved by itself, as whoever may ask for any node's.
    mine = await world.client.create(
        SIGNING_REQUESTS, request_object(signing_request(make_key(), "other"), CLIENT_SIGNER, "other")
    )
    assert (await settled(world.client, mine["metadata"]["name"]))["status"]["conditions"][0][
        "type"
    ] == "Approved"
    assert not (await world.client.get(SIGNING_REQUESTS, made["metadata"]["name"])).get("status")


async def test_a_certificate_that_has_run_out_is_not_taken(world: World) -> None:
    folder = world.server.home / "pki"
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    own_key = make_key()
    body = request_object(signing_request(own_key, "guest"), CLIENT_SIGNER, "guest")
    asked = plan.read_request(body)
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=30)
    old = plan.sign(asked, 600, authority, key, past)  # type: ignore[arg-type]
    write_private(world.server.home / "old.pem", old + own_key)
    assert read_certificate(world.server.home / "old.pem", "guest") is None
    async with with_pair(world.client, old + own_key) as late:
        with pytest.raises((Unauthorized, Unreachable)):
            await late.get(NODES, "guest")


async def test_nodes_without_a_range_get_one_each(world: World) -> None:
    ranges = ["127.30.0.0/22", "127.30.4.0/22"]
    await world.start(register=lambda runtime: node_ranges.register(runtime, ranges))
    for name in ("a", "b"):
        await world.client.create(NODES, {"metadata": {"name": name}})

    async def given() -> bool:
        nodes = (await world.client.list(NODES)).items
        return sorted(node["spec"].get("podCIDR", "") for node in nodes) == ranges

    await eventually(given, "each node has a range")


def asked_with(node: str = "guest", address: str = "", **changes: Any) -> plan.Asked:
    signer = SERVING_SIGNER if address else CLIENT_SIGNER
    body = request_object(signing_request(make_key(), node, address), signer, node)
    body["spec"]["username"] = f"system:node:{node}"
    return plan.read_request(body)._replace(**changes)


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (asked_with(organizations=()), "organization"),
        (asked_with(common_name="jane"), "common name"),
        (asked_with(names=("a",)), "no alternative names"),
        (asked_with(usages=frozenset({"client auth", "digital signature", "code signing"})), "usages"),
        (asked_with(usages=frozenset({"client auth"})), "usages"),
        (asked_with(address="10.0.0.1", names=()), "is needed"),
        (asked_with(address="10.0.0.1", other_names=True), "alternative names"),
        (asked_with(signer=plan.CLIENT, usages=frozenset({"server auth"})), "client auth"),
    ],
)
def test_signers_refuse_what_is_not_theirs(asked: plan.Asked, word: str) -> None:
    assert word in plan.refusal(asked)
    assert not plan.right_to_be_approved(asked)
    assert not plan.serves_only_itself(asked, ["10.0.0.1", "guest"])


def test_only_the_node_itself_serves_under_its_own_addresses() -> None:
    asked = asked_with(address="10.0.0.1")
    assert plan.serves_only_itself(asked, ["10.0.0.1", "guest"])
    assert not plan.serves_only_itself(asked, ["10.0.0.1"])
    assert not plan.serves_only_itself(asked._replace(user="jane"), ["10.0.0.1", "guest"])


def test_a_certificate_is_renewed_long_before_its_end(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path)
    certificate, _ = authority.client_certificate(pki.Identity("x", "system:node:x", ("system:nodes",)))
    read = x509.load_pem_x509_certificate(certificate)
    due, whole = renewal_time(read), read.not_valid_after_utc - read.not_valid_before_utc
    assert due - read.not_valid_before_utc == whole * 0.8


def test_a_serving_request_names_node_and_address() -> None:
    body = request_object(signing_request(make_key(), "guest", "10.0.0.1"), SERVING_SIGNER, "guest")
    request = x509.load_pem_x509_csr(base64.b64decode(body["spec"]["request"]))
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names) == {x509.DNSName("guest"), x509.IPAddress(ipaddress.ip_address("10.0.0.1"))}
    assert body["spec"]["usages"] == ["digital signature", "server auth"]
