"""What Envoy's names of routes say: of which object they were made, and of which of its rules. Pure.

A GRPCRoute may have the name of an HTTPRoute beside it, and counts apart from that.
"""

from __future__ import annotations

import functools

_KINDS = {"ai": "", "http": "", "grpc": "grpc:"}
GRPC_PREFIX = _KINDS["grpc"]


@functools.lru_cache(maxsize=65_536)
def read_route(name: str) -> tuple[str, str] | None:
    """`ai/namespace/name/rule/0/match/0` to namespace/name and 0, which has `grpc:` in front where it is a GRPCRoute's; None
    for names of our own answers.
    """
    parts = name.split("/")
    prefix = _KINDS.get(parts[0])
    if prefix is None or len(parts) < 7 or parts[3] != "rule":
        return None
    return f"{prefix}{parts[1]}/{parts[2]}", parts[4]
