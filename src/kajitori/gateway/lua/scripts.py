"""The Lua that runs inside Envoy, as text: one script a place in the chain, made of the parts that it needs."""

from __future__ import annotations

from importlib.resources import files

from kajitori.gateway.error_names import lua_error_names
from kajitori.gateway.operations import lua_operations

_FOLDER = files("kajitori.gateway") / "lua"


def _parts(*names: str) -> str:
    return "".join((_FOLDER / f"{name}.lua").read_text() for name in names)


_REFUSALS = lua_error_names() + _parts("refusals")

REQUEST_SCRIPT = (
    _parts("scanner", "forms")
    + _REFUSALS
    + _parts("models", "sha256", "context", "facts", "logins", "keys")
    + lua_operations()
    + _parts("memory", "order", "request", "usage")
)
COOLING_SCRIPT = _parts("memory", "cooling")
ATTEMPT_SCRIPT = _parts("scanner", "forms", "facts", "attempt")
OVERRIDE_SCRIPT = _parts("scanner") + _REFUSALS + _parts("credential", "override")
SIGNING_SCRIPT = _parts("scanner") + _REFUSALS + _parts("sha256", "credential", "signing")
