"""CustomResourceDefinitions: from their names to the end of their last instance."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.contract.test_definition_rules import DEFINITIONS, definition
from tests.servers import Server
from tests.waiting import eventually

SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {"size": {"type": "integer", "default": 3}, "name": {"type": "string"}},
}
STATUS: dict[str, Any] = {
    "type": "object",
    "properties": {"ready": {"type": "integer"}, "selector": {"type": "string"}},
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"spec": SPEC, "status": STATUS}}


def made_of(namespace: str, plural: str = "boxes", **version: Any) -> dict[str, Any]:
    """A definition in a group that only this test uses."""
    made = definition(plural, SCHEMA, f"{namespace}.example.com")
    made["spec"]["names"] = {"plural": plural, "singular": plural[:-1], "kind": plural.capitalize()}
    made["spec"]["versions"][0].update(version)
    return made


def box(namespace: str, name: str, /, version: str = "v1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{namespace}.example.com/{version}",
        "kind": "Boxes",
        "metadata": {"name": name},
        "spec": spec,
    }


class Kind:
    """A definition that is served, and where its objects are."""

    def __init__(self, server: Server, namespace: str, made: dict[str, Any]) -> None:
        self.server = server
        self.made = made
        self.at = f"{DEFINITIONS}/{made['metadata']['name']}"
        self.path = (
            f"/apis/{made['spec']['group']}/v1/namespaces/{namespace}/{made['spec']['names']['plural']}"
        )

    async def __aenter__(self) -> Kind:
        (await self.server.http.create(DEFINITIONS, self.made)).ok()
        await eventually(self.served, "the kind is served")
        # The real server lets the first writes wait for its caches.
        await eventually(self.takes_writes, "the kind takes writes")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.http.delete(self.at)

    async def served(self) -> bool:
        return (await self.server.http.get(self.path)).code == 200

    async def takes_writes(self) -> bool:
        names = self.made["spec"]["names"]
        body = {
            "apiVersion": f"{self.made['spec']['group']}/v1",
            "kind": names["kind"],
            "metadata": {"name": "try"},
        }
        return (await self.server.http.create(self.path, body, dryRun="All")).code == 201

    async def change(self, **version: Any) -> None:
        current = (await self.server.http.get(self.at)).ok()
        current["spec"]["versions"][0].update(version)
        (await self.server.http.put(self.at, current)).ok()


async def test_free_names_are_accepted_and_the_kind_is_served(server: Server, namespace: str) -> None:
    made = made_of(namespace)
    made["spec"]["names"] |= {"shortNames": ["bx"], "categories": ["all"]}
    async with Kind(server, namespace, made) as kind:
        status = (await server.http.get(kind.at)).ok()["status"]
        conditions = {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}
        assert conditions["NamesAccepted"] == ("True", "NoConflicts", "no conflicts found")
        assert conditions["Established"] == (
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        )
        assert status["acceptedNames"] == {
            "plural": "boxes",
            "singular": "boxe",
            "kind": "Boxes",
            "listKind": "BoxesList",
            "shortNames": ["bx"],
            "categories": ["all"],
        }
        assert status["storedVersions"] == ["v1"]

        async def discovered() -> Any:
            answer = await server.http.get(f"/apis/{namespace}.example.com/v1")
            return answer.json["resources"] if answer.code == 200 else None

        (shown,) = await eventually(discovered, "discovery knows the kind")
        assert (shown["name"], shown["kind"], shown["shortNames"], shown["categories"]) == (
            "boxes",
            "Boxes",
            ["bx"],
            ["all"],
        )


async def test_a_taken_name_is_not_accepted_until_it_is_free(server: Server, namespace: str) -> None:
    second = made_of(namespace, "crates")
    second["spec"]["names"]["kind"] = "Boxes"
    second["spec"]["names"]["listKind"] = "CratesList"
    async with Kind(server, namespace, made_of(namespace)):
        (await server.http.create(DEFINITIONS, second)).ok()
        at = f"{DEFINITIONS}/crates.{namespace}.example.com"

        async def refused() -> Any:
            conditions = (await server.http.get(at)).ok()["status"].get("conditions") or []
            found = {c["type"]: (c["status"], c["reason"], c["message"]) for c in conditions}
            return found if "NamesAccepted" in found and "Established" in found else None

        found = await eventually(refused, "the names are judged")
        assert found["NamesAccepted"] == ("False", "KindConflict", '"Boxes" is already in use')
        assert found["Established"] == ("False", "NotAccepted", "not all names are accepted")
    try:

        async def accepted() -> bool:
            conditions = (await server.http.get(at)).ok()["status"]["conditions"]
            return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

        await eventually(accepted, "the name has become free")
    finally:
        await server.http.delete(at)


async def test_objects_are_pruned_and_completed(server: Server, namespace: str) -> None:
    async with Kind(server, namespace, made_of(namespace)) as kind:
        answer = await server.http.create(kind.path, box(namespace, "a", name="x", colour="red"))
        assert answer.ok()["spec"] == {"name": "x", "size": 3}
        assert answer.headers.getall("Warning") == ['299 - "unknown field \\"spec.colour\\""']
        listed = (await server.http.get(kind.path)).ok()
        assert listed["kind"] == "BoxesList"
        assert [item["kind"] for item in listed["items"]] == ["Boxes"]


async def test_status_is_written_apart_and_scale_reads_its_paths(server: Server, namespace: str) -> None:
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.ready",
        "labelSelectorPath": ".status.selector",
    }
    made = made_of(namespace, subresources={"status": {}, "scale": scale})
    async with Kind(server, namespace, made) as kind:
        created = (await server.http.create(kind.path, {**box(namespace, "a"), "status": {"ready": 9}})).ok()
        assert "status" not in created
        assert created["metadata"]["generation"] == 1
        written = (
            await server.http.merge(
                f"{kind.path}/a/status", {"status": {"ready": 2, "selector": "a=b"}, "spec": {"size": 7}}
            )
        ).ok()
        assert (written["status"]["ready"], written["spec"]["size"]) == (2, 3)
        assert written["metadata"]["generation"] == 1
        shown = (await server.http.get(f"{kind.path}/a/scale")).ok()
        assert (shown["kind"], shown["apiVersion"]) == ("Scale", "autoscaling/v1")
        assert shown["spec"] == {"replicas": 3}
        assert shown["status"] == {"replicas": 2, "selector": "a=b"}
        (await server.http.merge(f"{kind.path}/a/scale", {"spec": {"replicas": 5}})).ok()
        found = (await server.http.get(f"{kind.path}/a")).ok()
        assert (found["spec"]["size"], found["metadata"]["generation"]) == (5, 2)


async def test_columns_and_selectable_fields_are_as_declared(server: Server, namespace: str) -> None:
    made = made_of(
        namespace,
        additionalPrinterColumns=[{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        selectableFields=[{"jsonPath": ".spec.size"}],
    )
    async with Kind(server, namespace, made) as kind:
        for name, size in (("a", 1), ("b", 2)):
            (await server.http.create(kind.path, box(namespace, name, size=size))).ok()
        table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        shown = (await server.http.request("GET", kind.path, headers=table)).ok()
        assert [column["name"] for column in shown["columnDefinitions"]] == ["Name", "Size"]
        assert [row["cells"] for row in shown["rows"]] == [["a", 1], ["b", 2]]
        chosen = (await server.http.get(kind.path, fieldSelector="spec.size=2")).ok()["items"]
        assert [item["metadata"]["name"] for item in chosen] == ["b"]
        answer = await server.http.get(kind.path, fieldSelector="spec.name=x")
        assert (answer.code, answer.json["message"]) == (400, "field label not supported: spec.name")


async def test_versions_without_conversion_differ_by_their_name_alone(server: Server, namespace: str) -> None:
    made = made_of(namespace)
    older = {
        **made["spec"]["versions"][0],
        "name": "v1beta1",
        "storage": False,
        "deprecated": True,
    }
    made["spec"]["versions"].append(older)
    async with Kind(server, namespace, made) as kind:
        (await server.http.create(kind.path, box(namespace, "a", size=1))).ok()
        answer = await server.http.get(f"{kind.path.replace('/v1/', '/v1beta1/')}/a")
        found = answer.ok()
        assert (found["apiVersion"], found["spec"]) == (f"{namespace}.example.com/v1beta1", {"size": 1})
        assert answer.headers.getall("Warning") == [
            f'299 - "{namespace}.example.com/v1beta1 Boxes is deprecated; use {namespace}.example.com/v1 Boxes"'
        ]


async def test_the_version_that_is_stored_is_remembered(server: Server, namespace: str) -> None:
    async with Kind(server, namespace, made_of(namespace)) as kind:
        current = (await server.http.get(kind.at)).ok()
        (first,) = current["spec"]["versions"]
        current["spec"]["versions"] = [{**first, "name": "v2"}, {**first, "storage": False}]
        changed = (await server.http.put(kind.at, current)).ok()
        assert changed["status"]["storedVersions"] == ["v1", "v2"]
        changed["spec"]["versions"].pop()
        answer = await server.http.put(kind.at, changed)
        assert answer.code == 422
        assert answer.json["details"]["causes"][0]["field"] == "status.storedVersions[0]"
        assert answer.json["details"]["causes"][0]["message"].startswith(
            'Invalid value: "v1": missing from spec.versions; '
        )


async def test_a_schema_is_changed_in_place(server: Server, namespace: str) -> None:
    async with Kind(server, namespace, made_of(namespace)) as kind:
        (await server.http.create(kind.path, box(namespace, "a", size=1, name="x"))).ok()
        stricter = {**SPEC, "properties": {**SPEC["properties"], "size": {"type": "integer", "minimum": 5}}}
        schema = {**SCHEMA, "properties": {"spec": stricter, "status": STATUS}}
        await kind.change(schema={"openAPIV3Schema": schema})

        async def in_force() -> bool:
            answer = await server.http.create(kind.path, box(namespace, "b", size=1), dryRun="All")
            return answer.code == 422

        await eventually(in_force, "the new schema is in force")
        # What was wrong before and is not touched stays as it was.
        (await server.http.merge(f"{kind.path}/a", {"spec": {"name": "y"}})).ok()
        answer = await server.http.merge(f"{kind.path}/a", {"spec": {"size": 2}})
        assert answer.code == 422
        assert answer.json["details"]["causes"][0]["message"] == (
            "Invalid value: 2: spec.size in body should be greater than or equal to 5"
        )


async def test_a_definition_goes_after_its_last_instance(server: Server, namespace: str) -> None:
    async with Kind(server, namespace, made_of(namespace)) as kind:
        held = box(namespace, "held")
        held["metadata"]["finalizers"] = ["example.com/hold"]
        (await server.http.create(kind.path, held)).ok()
        (await server.http.create(kind.path, box(namespace, "free"))).ok()
        deleted = (await server.http.delete(kind.at)).ok()
        assert "customresourcecleanup.apiextensions.k8s.io" in deleted["metadata"]["finalizers"]

        async def terminating() -> bool:
            answer = await server.http.get(kind.at)
            return any(
                c["type"] == "Terminating"
                and (c["status"], c["reason"]) == ("True", "InstanceDeletionInProgress")
                for c in answer.ok()["status"]["conditions"]
            )

        await eventually(terminating, "the definition says that it goes")

        async def refused() -> bool:
            return (await server.http.create(kind.path, box(namespace, "late"), dryRun="All")).code != 201

        await eventually(refused, "nothing new is taken")

        async def one_left() -> bool:
            answer = await server.http.get(kind.path)
            return answer.code == 200 and [i["metadata"]["name"] for i in answer.json["items"]] == ["held"]

        await eventually(one_left, "what is not held is gone")
        (await server.http.merge(f"{kind.path}/held", {"metadata": {"finalizers": None}})).ok()

        async def gone() -> bool:
            return (await server.http.get(kind.at)).code == 404

        await eventually(gone, "the definition is gone")


@pytest.mark.world
async def test_five_thousand_objects_go_at_once_and_each_is_told_once(server: Server, namespace: str) -> None:
    count = 5_000
    async with Kind(server, namespace, made_of(namespace)) as kind:
        gate = asyncio.Semaphore(32)

        async def make(number: int) -> None:
            async with gate:
                (await server.http.create(kind.path, box(namespace, f"n{number}"))).ok()

        await asyncio.gather(*(make(number) for number in range(count)))
        start = (await server.http.get(kind.path, limit="1")).ok()["metadata"]["resourceVersion"]
        async with server.http.watch(kind.path, resourceVersion=start) as watch:
            deleting = asyncio.create_task(server.http.delete(kind.path))
            seen: list[str] = []
            while len(seen) < count:
                event = await watch.next(60)
                assert event["type"] == "DELETED"
                seen.append(event["object"]["metadata"]["name"])
            assert (await deleting).code == 200
        assert len(set(seen)) == count
        assert (await server.http.get(kind.path)).ok()["items"] == []
