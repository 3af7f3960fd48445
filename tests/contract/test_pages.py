"""Lists: how fresh they are, in pages, while objects change."""

from __future__ import annotations

from typing import Any

import pytest
from tests.servers import Server, config_map
from tests.wire import Answer


def names(answer: Answer) -> list[str]:
    return [item["metadata"]["name"] for item in answer.ok()["items"]]


@pytest.fixture
async def path(server: Server, namespace: str) -> str:
    """Five config maps with the label `app`, and where they are."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    for number in range(5):
        labels = {"half": str(number % 2)}
        (await server.http.create(path, {"metadata": {"name": f"c{number}", "labels": labels}})).ok()
    return path


async def test_pages_show_one_moment_while_objects_come_and_go(server: Server, path: str) -> None:
    first = await server.http.get(path, limit="2")
    metadata = first.ok()["metadata"]
    assert names(first) == ["c0", "c1"]
    assert metadata["remainingItemCount"] == 3
    await server.http.create(path, {"metadata": {"name": "c11"}})
    await server.http.delete(f"{path}/c3")
    second = await server.http.get(path, limit="2", **{"continue": metadata["continue"]})
    assert names(second) == ["c2", "c3"]
    assert second.json["metadata"]["resourceVersion"] == metadata["resourceVersion"]
    last = await server.http.get(path, **{"continue": second.json["metadata"]["continue"]})
    assert names(last) == ["c4"]
    assert not last.json["metadata"].get("continue")


async def test_a_page_by_selector_does_not_say_how_much_remains(server: Server, path: str) -> None:
    for selector in ({"labelSelector": "half=0"}, {"fieldSelector": "metadata.name!=c1"}):
        page = await server.http.get(path, limit="2", **selector)
        assert names(page) == ["c0", "c2"]
        assert page.json["metadata"]["continue"]
        assert "remainingItemCount" not in page.json["metadata"]


async def test_the_last_page_has_no_token(server: Server, path: str) -> None:
    for limit in ("5", "0", "100"):
        page = await server.http.get(path, limit=limit)
        assert len(names(page)) == 5
        assert not page.json["metadata"].get("continue")


async def test_who_takes_any_version_gets_all_of_it_at_once(server: Server, path: str) -> None:
    assert len(names(await server.http.get(path, limit="2", resourceVersion="0"))) == 5


async def test_a_list_shows_what_was_written_before_it(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for number in range(10):
        made = (await server.http.create(path, config_map(f"n{number}"))).ok()
        listed = (await server.http.get(path)).ok()
        assert f"n{number}" in [item["metadata"]["name"] for item in listed["items"]]
        assert int(listed["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])


async def test_a_list_of_an_exact_version_is_of_that_moment(server: Server, path: str) -> None:
    before = (await server.http.get(path)).ok()["metadata"]["resourceVersion"]
    await server.http.delete(f"{path}/c0")
    exact = await server.http.get(path, resourceVersion=before, resourceVersionMatch="Exact")
    assert names(exact) == ["c0", "c1", "c2", "c3", "c4"]
    assert exact.json["metadata"]["resourceVersion"] == before
    fresher = await server.http.get(path, resourceVersion=before, resourceVersionMatch="NotOlderThan")
    assert names(fresher) == ["c1", "c2", "c3", "c4"]


async def test_a_version_of_the_future_is_waited_for_and_then_refused(server: Server, path: str) -> None:
    for place in (path, f"{path}/c1"):
        answer = await server.http.get(place, resourceVersion="999999999")
        assert (answer.code, answer.json["reason"]) == (504, "Timeout")
        assert answer.json["message"].startswith("Timeout: Too large resource version: 999999999, current: ")
        assert answer.json["details"]["causes"] == [
            {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        ]
        assert answer.headers["Retry-After"] == "1"


REFUSED: list[tuple[dict[str, str], int, str]] = [
    ({"limit": "abc"}, 400, 'strconv.ParseInt: parsing "abc": invalid syntax'),
    (
        {"limit": "99999999999999999999"},
        400,
        'strconv.ParseInt: parsing "99999999999999999999": value out of range',
    ),
    ({"timeoutSeconds": "abc"}, 400, 'strconv.ParseInt: parsing "abc": invalid syntax'),
    (
        {"resourceVersion": "abc"},
        400,
        'invalid resource version: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": '
        "invalid syntax",
    ),
    (
        {"resourceVersionMatch": "Exact"},
        422,
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
    ),
    (
        {"resourceVersion": "1", "resourceVersionMatch": "Foo"},
        422,
        'resourceVersionMatch: Unsupported value: "Foo": supported values: "Exact", "NotOlderThan", ""',
    ),
    (
        {"resourceVersion": "0", "resourceVersionMatch": "Exact"},
        422,
        'resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
    ),
    (
        {"sendInitialEvents": "true"},
        422,
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
    ),
]


async def test_options_that_make_no_sense_are_refused(server: Server, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for query, code, message in REFUSED:
        answer = await server.http.get(path, **query)
        prefix = 'ListOptions.meta.k8s.io "" is invalid: ' if code == 422 else ""
        assert (answer.code, answer.json["message"]) == (code, prefix + message), query


async def test_a_token_goes_with_no_version_and_no_match(server: Server, path: str) -> None:
    listed = (await server.http.get(path, limit="2")).ok()["metadata"]
    onwards: dict[str, Any] = {"continue": listed["continue"]}
    answer = await server.http.get(path, resourceVersion=listed["resourceVersion"], **onwards)
    assert (answer.code, answer.json["message"]) == (
        400,
        "specifying resource version is not allowed when using continue",
    )
    answer = await server.http.get(
        path, resourceVersion=listed["resourceVersion"], resourceVersionMatch="Exact", **onwards
    )
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["message"] == (
        "Forbidden: resourceVersionMatch is forbidden when continue is provided"
    )


@pytest.mark.parametrize(
    "token", ["abc", "!!", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiIifQ"]
)
async def test_a_token_that_is_none_is_refused(server: Server, namespace: str, token: str) -> None:
    answer = await server.http.get(f"/api/v1/namespaces/{namespace}/configmaps", **{"continue": token})
    assert answer.code == 400
    assert answer.json["message"].startswith("invalid continue token: continue key is not valid")
