"""The Lua that runs inside Envoy, as text: one script a place in the chain, made of the parts that it needs."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from kajitori.gateway.error_names import lua_error_names
from kajitori.gateway.operations import lua_operations

if TYPE_CHECKING:
    from collections.abc import Mapping

# So often at most a worker looks at what is used up.
LOOK_MILLISECONDS = 100
_FOLDER = files("kajitori.gateway") / "lua"


def _parts(*names: str) -> str:
    return "".join((_FOLDER / f"{name}.lua").read_text() for name in names)


def _room(*names: str, exported: tuple[str, ...] = (), inner: str = "") -> str:
    """Parts whose names but `exported`, which are functions, are their own: Lua takes no more than 200 in one place.

    inner: a room that the parts use.
    """
    text = inner + _parts(*names)
    for function in exported:
        text = text.replace(f"\nlocal function {function}(", f"\nfunction {function}(")
    declared = f"local {', '.join(exported)}\n" if exported else ""
    return f"{declared}do\n{text}end\n"


_REFUSALS = lua_error_names() + _parts("refusals")
_READING = _room(
    "counts", exported=("take_counts", "told_counts", "answered_model", "usage_object", "object_behind")
) + _room("endings", exported=("new_recent", "remember", "has_ended", "early_end"))

REQUEST_SCRIPT = (
    _parts("scanner", "forms")
    + _REFUSALS
    + _parts("models", "sha256", "context", "facts", "logins", "keys")
    + lua_operations()
    + _parts("memory")
    + _room("order", exported=("arrange", "read_hedge"))
    + _parts("shards", "request")
    + _room("statuses", "usage", inner=_READING)
)
COOLING_SCRIPT = _parts("memory", "facts") + "local byte = string.byte\n" + _parts("statuses", "cooling")
ATTEMPT_SCRIPT = _parts("scanner", "forms", "facts", "attempt")
OVERRIDE_SCRIPT = _parts("scanner") + _REFUSALS + _parts("credential", "override")
EXHAUSTED_SCRIPT = _parts("scanner") + _REFUSALS + _parts("facts", "exhausted_backends")
_USED_UP_SCRIPT = _parts("scanner") + _REFUSALS + _parts("facts", "used_up_limits")
SIGNING_SCRIPT = _parts("scanner") + _REFUSALS + _parts("sha256", "credential", "signing")


def used_up_script(file: str, accountant: str) -> str:
    """The script that keeps back whom a limit concerns that is used up. file: which says so. accountant: its cluster."""
    quoted = file.replace("\\", "\\\\").replace("'", "\\'")
    named = f"'{quoted}', '{accountant}', {LOOK_MILLISECONDS}"
    return f"local USED_UP_FILE, ACCOUNTANT, LOOK_MILLISECONDS = {named}\n{_USED_UP_SCRIPT}"


def told_costs_script(costs: Mapping[str, Mapping[str, int]]) -> str:
    """The script that says what an answer took. costs: by route, as namespace/name, the place of the count of each name."""
    routes = ", ".join(
        f"[{_quoted(route)}] = {{ {', '.join(f'[{_quoted(name)}] = {place}' for name, place in names.items())} }}"
        for route, names in sorted(costs.items())
    )
    return f"local COSTS = {{ {routes} }}\n{_parts('told_costs')}"


def _quoted(text: str) -> str:
    """As Lua writes a text, byte by byte but for letters and digits."""
    return (
        "'"
        + "".join(
            letter
            if letter.isascii() and (letter.isalnum() or letter in "-_./")
            else "".join(f"\\{byte:03d}" for byte in letter.encode())
            for letter in text
        )
        + "'"
    )
