"""The Lua that runs inside Envoy, as text: one script a place in the chain, made of the parts that it needs."""

from __future__ import annotations

from importlib.resources import files

from kajitori.gateway.error_names import lua_error_names
from kajitori.gateway.operations import lua_operations

_FOLDER = files("kajitori.gateway") / "lua"


def _parts(*names: str) -> str:
    return "".join((_FOLDER / f"{name}.lua").read_text() for name in names)


def _room(*names: str, exported: tuple[str, ...] = ()) -> str:
    """Parts whose names but `exported`, which are functions, are their own: Lua takes no more than 200 in one place."""
    text = _parts(*names)
    for function in exported:
        text = text.replace(f"\nlocal function {function}(", f"\nfunction {function}(")
    declared = f"local {', '.join(exported)}\n" if exported else ""
    return f"{declared}do\n{text}end\n"


_REFUSALS = lua_error_names() + _parts("refusals")

REQUEST_SCRIPT = (
    _parts("scanner", "forms")
    + _REFUSALS
    + _parts("models", "sha256", "context", "facts", "logins", "keys")
    + lua_operations()
    + _parts("memory")
    + _room("order", exported=("arrange",))
    + _parts("shards", "request")
    + _room("counts", "usage")
)
COOLING_SCRIPT = _parts("memory", "facts", "cooling")
ATTEMPT_SCRIPT = _parts("scanner", "forms", "facts", "attempt")
OVERRIDE_SCRIPT = _parts("scanner") + _REFUSALS + _parts("credential", "override")
EXHAUSTED_SCRIPT = _parts("scanner") + _REFUSALS + _parts("facts", "exhausted_backends")
_USED_UP_SCRIPT = _parts("scanner") + _REFUSALS + _parts("facts", "used_up_limits")
SIGNING_SCRIPT = _parts("scanner") + _REFUSALS + _parts("sha256", "credential", "signing")


def used_up_script(file: str, accountant: str) -> str:
    """The script that keeps back whom a limit concerns that is used up. file: which says so. accountant: its cluster."""
    quoted = file.replace("\\", "\\\\").replace("'", "\\'")
    return f"local USED_UP_FILE, ACCOUNTANT = '{quoted}', '{accountant}'\n{_USED_UP_SCRIPT}"
