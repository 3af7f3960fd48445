"""The Lua that runs inside Envoy, as text: one script a place in the chain, each with the JSON scanner in front."""

from __future__ import annotations

from importlib.resources import files

_FOLDER = files("kajitori.gateway") / "lua"
_SCANNER = (_FOLDER / "scanner.lua").read_text()

REQUEST_SCRIPT = _SCANNER + (_FOLDER / "request.lua").read_text()
ATTEMPT_SCRIPT = _SCANNER + (_FOLDER / "attempt.lua").read_text()
