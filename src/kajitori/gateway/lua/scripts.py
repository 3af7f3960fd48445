"""The Lua that runs inside Envoy, as text: one script a place in the chain, each with the JSON scanner in front."""

from __future__ import annotations

from importlib.resources import files

_FOLDER = files("kajitori.gateway") / "lua"
_SCANNER = (_FOLDER / "scanner.lua").read_text()

REQUEST_SCRIPT = _SCANNER + "".join(
    (_FOLDER / name).read_text() for name in ("sha256.lua", "keys.lua", "request.lua")
)
ATTEMPT_SCRIPT = _SCANNER + (_FOLDER / "attempt.lua").read_text()
_CREDENTIAL = (_FOLDER / "credential.lua").read_text()
OVERRIDE_SCRIPT = _CREDENTIAL + (_FOLDER / "override.lua").read_text()
SIGNING_SCRIPT = (_FOLDER / "sha256.lua").read_text() + _CREDENTIAL + (_FOLDER / "signing.lua").read_text()
