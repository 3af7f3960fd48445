"""Selectors against a plain reading of their rules, and pages against the list that they cut up."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kajitori.laptop.apiserver.label_selectors import selector_text, selects
from kajitori.laptop.apiserver.selectors import parse_labels
from kajitori.laptop.apiserver.store import Deleted, Entry, Key, Store

KEYS = st.sampled_from(["a", "b", "example.com/c"])
VALUES = st.sampled_from(["", "1", "2", "x"])
EXPRESSIONS = st.one_of(
    st.fixed_dictionaries(
        {
            "key": KEYS,
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(["1", "2", "x"]), min_size=1),
        }
    ),
    st.fixed_dictionaries({"key": KEYS, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
SELECTORS = st.fixed_dictionaries(
    {
        "matchLabels": st.dictionaries(KEYS, VALUES, max_size=2),
        "matchExpressions": st.lists(EXPRESSIONS, max_size=3),
    }
)


@given(SELECTORS, st.dictionaries(KEYS, VALUES))
def test_the_text_of_a_selector_selects_the_same(selector: dict[str, object], labels: dict[str, str]) -> None:
    requirements = parse_labels(selector_text(selector))
    assert all(requirement.matches(labels) for requirement in requirements) == selects(selector, labels)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), st.sampled_from("abcdef"), st.sampled_from(["n", "m"])),
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OPERATIONS, st.integers(0, 25))
def test_the_past_can_be_read_as_it_was(operations: list[tuple[str, str, str]], moment: int) -> None:
    async def run(path: Path) -> None:
        store = Store(path)
        store.start()
        now: dict[tuple[str, str], bytes] = {}
        past: tuple[int, dict[tuple[str, str], bytes]] | None = None
        for number, (operation, name, namespace) in enumerate(operations):
            if number == moment:
                past = (store.version, dict(now))
            key = Key("things", namespace, name)
            obj = {"metadata": {"name": name, "namespace": namespace, "uid": str(number)}}

            def decide(
                before: Entry | None, operation: str = operation, obj: dict[str, dict[str, str]] = obj
            ) -> dict[str, dict[str, str]] | Deleted | None:
                if operation == "put":
                    return obj
                return Deleted(before.decode()) if before is not None else None

            written = await store.mutate(key, decide)
            if written is not None and written.deleted:
                del now[namespace, name]
            elif written is not None:
                now[namespace, name] = written.after.body
        table = store.table("things")
        version, wanted = past or (store.version, now)
        for only in ("", "n"):
            shown = {(e.namespace, e.name): e.body for e in table.as_of(version, only)}
            assert shown == {key: body for key, body in wanted.items() if not only or key[0] == only}
            assert list(shown) == sorted(shown)
        assert [(e.namespace, e.name) for e in table.scan()] == sorted(now)
        await store.stop()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "state.db"))
