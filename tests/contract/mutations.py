"""Objects that are a little wrong: each field of a sample object removed, emptied, misspelt, too long, out of range, of
another type. What a server says of one is made comparable here; both servers are asked in `test_mutations.py`.
"""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.contract.comparison import sample_objects
from tests.wire import Answer

Object = dict[str, Any]
Steps = tuple[str | int, ...]

KNOWN = Path(__file__).with_name("recorded") / "known_mutations.txt"
# One in so many is tried in the quick suite.
QUICK_SHARE = 14
_NUMBER_TEXT = re.compile(r"\d+(\.\d+)?[a-zA-Z%]*")
_BY_KEY = frozenset({"labels", "annotations", "matchLabels", "nodeSelector"})
_WRONG: dict[type, tuple[Any, ...]] = {
    str: ("", "Bad Value!", "x" * 300, "nope"),
    int: (-1, 0, 99_999_999_999, 2**31 - 1),
    bool: (),
    list: ([],),
    dict: ({},),
}
_OTHER_TYPE: dict[type, Any] = {str: 1, int: "x", float: "x", bool: "x", list: {}, dict: []}


class Mutation(NamedTuple):
    """key: kind, name, place and change, as `known_mutations.txt` has it; NAMESPACE stands for the test's."""

    key: str
    obj: Object


def _places(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    yield steps, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield from _places(item, (*steps, step))


def _at(obj: Any, steps: Steps) -> Any:
    for step in steps:
        obj = obj[step]
    return obj


def _values(steps: Steps, value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    for wrong in _WRONG.get(kind, ()):
        if wrong != value:
            yield f"{wrong!r:.12}", wrong
    if isinstance(value, str) and _NUMBER_TEXT.fullmatch(value):
        yield from (("less", "-1"), ("part", "1.5"), ("word", "abc"))
    if isinstance(value, list) and value:
        yield "twice", [*value, copy.deepcopy(value[0])]
    if isinstance(value, dict) and steps[-1] in _BY_KEY:
        yield "keys", {"a b": "c d"}
    yield "type", _OTHER_TYPE.get(kind, "x")


def mutations(namespace: str) -> Iterator[Mutation]:
    """All of them: some seven thousand, in an order that stays."""
    for obj in sample_objects(namespace):
        name = str(obj["metadata"]["name"]).replace(namespace, "NAMESPACE")
        for steps, value in _places(obj):
            if not steps or steps[0] in ("apiVersion", "kind", "status") or steps == ("metadata",):
                continue
            place = ".".join(map(str, steps)).replace(namespace, "NAMESPACE")
            removed = copy.deepcopy(obj)
            del _at(removed, steps[:-1])[steps[-1]]
            yield Mutation(f"{obj['kind']} {name} {place} removed", removed)
            for change, wrong in _values(steps, value):
                changed = copy.deepcopy(obj)
                _at(changed, steps[:-1])[steps[-1]] = wrong
                yield Mutation(f"{obj['kind']} {name} {place} {change}", changed)


def is_quick(mutation: Mutation) -> bool:
    """Whether it is of the fixed selection of the quick suite."""
    return zlib.crc32(mutation.key.encode()) % QUICK_SHARE == 0


def known() -> frozenset[str]:
    """Keys of what both servers are known to tell of in different words, or only one of them refuses."""
    return frozenset(KNOWN.read_text().splitlines())


# docs/reference/embedded-cluster.md: ours tells the place of a malformed quantity or time; a real server tells the Go type
# of a word and the structures that are embedded on the way to it.
_OUR_PLACE = re.compile(r" \([A-Za-z][^()]*(\([^()]*\))?[^()]*\)$")
_GO_TYPE = re.compile(r"(cannot unmarshal .*) of type .+$")
_EMBEDDED = re.compile(
    r"\b(VolumeSource|ProbeHandler|LifecycleHandler|PersistentVolumeSource|LocalObjectReference)\.(?=[a-z])"
)


def _settled(message: str) -> str:
    message = _GO_TYPE.sub(r"\1", _OUR_PLACE.sub("", message))
    start, found, place = message.partition(" into Go struct field ")
    struct, _, rest = place.partition(".")
    return f"{start}{found}{struct}.{_EMBEDDED.sub('', rest)}" if found else message


def told(answer: Answer, namespace: str) -> tuple[Any, ...]:
    """Code, reason and causes, or the message where there are none."""
    if answer.code < 300:
        return (answer.code,)
    status = answer.json
    causes = {
        (cause.get("reason"), cause.get("field"), cause.get("message").replace(namespace, "NAMESPACE"))
        for cause in (status.get("details") or {}).get("causes") or ()
    }
    message = "" if causes else _settled(status["message"])
    return answer.code, status.get("reason"), tuple(sorted(causes, key=str)), message
