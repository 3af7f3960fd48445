"""Which addresses are this machine's own, so that pods and Services can have them. Nothing is sent anywhere."""

from __future__ import annotations

import ipaddress
import socket
import urllib.parse
from pathlib import Path

from kajitori.base.errors import UsageError

_NONLOCAL_BIND = Path("/proc/sys/net/ipv4/ip_nonlocal_bind")
FIRST_KUBELET_PORT = 10250
_PORTS_TRIED = 100


def is_local(address: str) -> bool:
    """Whether packets to this address stay on this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    try:
        strangers_may_be_bound = _NONLOCAL_BIND.read_text().strip() == "1"
    except OSError:
        strangers_may_be_bound = False
    return not strangers_may_be_bound or _source_towards(address) == address


def _source_towards(address: str) -> str:
    """The address that packets to this one would come from; a datagram socket finds out without sending any."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            return probe.getsockname()[0]
        except OSError:
            return ""


def is_local_range(cidr: str) -> bool:
    """Whether the range, as its first, middle and last address tell, is this machine's own."""
    network = ipaddress.IPv4Network(cidr)
    last = network.num_addresses - 1
    return all(is_local(str(network[index])) for index in {min(1, last), last // 2, max(0, last - 1)})


def check_pod_range(cidr: str) -> None:
    """Raise UsageError for a range that pods cannot have."""
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise UsageError(f"pod range {cidr!r}: {error}", hint="such as --pod-cidr 10.244.7.0/24") from None
    if network.prefixlen > 29:
        raise UsageError(f"pod range {cidr} has room for {network.num_addresses} addresses: too few")
    if not is_local_range(cidr):
        raise UsageError(
            f"addresses of the pod range {cidr} are not this machine's own",
            hint=f"in a network namespace or on a machine of its own: `ip route add local {cidr} dev lo`",
        )


def own_address(server: str) -> str:
    """The address of this machine as the API server sees it. Raises UsageError if its host is unknown."""
    parts = urllib.parse.urlsplit(server)
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or 443, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise UsageError(f"the API server's host {host!r} has no address: {error}") from None
    address = str(found)
    if ipaddress.ip_address(address).is_loopback:
        return "127.0.0.1"
    return _source_towards(address) or address


def check_address(address: str) -> None:
    """Raise UsageError for an address that is not this machine's own."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise UsageError(f"{address!r} is no IPv4 address", where="--address") from None
    if not is_local(address):
        raise UsageError(f"{address} is not this machine's own", where="--address")


def is_free(address: str, port: int) -> bool:
    """Whether the port can be listened on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def kubelet_port(address: str, wanted: int | None, taken: set[int]) -> int:
    """The wanted port, or the first free one from 10250. taken: by nodes that do not run now. Raises UsageError."""
    if wanted is not None:
        if not is_free(address, wanted):
            raise UsageError(
                f"port {wanted} of {address} is taken", hint="choose another with --port", where="--port"
            )
        return wanted
    for port in range(FIRST_KUBELET_PORT, FIRST_KUBELET_PORT + _PORTS_TRIED):
        if port not in taken and is_free(address, port):
            return port
    raise UsageError(f"no port of {address} from {FIRST_KUBELET_PORT} is free", hint="choose one with --port")
