"""What Envoy's routes mean that no object stands behind: with these the gateway answers by itself. Pure.

Records name a route as Envoy does; people are told this in its place. The names are given in `endpoints.py`.
"""

from __future__ import annotations

_MEANINGS = {
    "ai-entry/": "refused before a route was looked for",
    "ai-method/": "this path takes other methods",
    "ai-models": "the list of models",
    "ai-preflight": "a browser's question whether it may ask",
    "ai-unknown-model": "no route has this model",
    "ai-unnamed": "no backend serves this path without a model",
    "unknown-path": "nothing is served at this path",
}


def meaning_of_own(route: str) -> str:
    """The meaning of a route of ours; empty for namespace/name of a user's."""
    return next((meaning for name, meaning in _MEANINGS.items() if route.startswith(name)), "")
