"""Where an engine on a laptop listens: on its pod's address, where a container would listen on all of its own."""

from __future__ import annotations

POD_ADDRESS_VARIABLE = "KAJITORI_POD_IP"

_ALL = ("", "0.0.0.0", "::", "[::]", "*")


def bind_address(host: str, pod_address: str) -> str:
    """The address to bind for a server that was asked for `host`; loopback outside of a pod."""
    return (pod_address or "127.0.0.1") if host in _ALL else host
