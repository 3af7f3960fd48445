"""Kubernetes' own function libraries: quantities, URLs, IP addresses and networks.

Source: the Kubernetes documentation, "Common Expression Language in Kubernetes".
"""

from __future__ import annotations

import ipaddress
from fractions import Fraction
from typing import Any, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from kajitori.base.cel.errors import EvaluationError
from kajitori.base.cel.functions import LEAST_INT, MOST_INT, method, register
from kajitori.base.cel.types import (
    BOOL,
    CIDR,
    DOUBLE,
    INT,
    IP,
    QUANTITY,
    STRING,
    URL,
    list_of,
    map_of,
)
from kajitori.base.cel.values import IpAddress, Network, Quantity, Url
from kajitori.base.quantity import parse_quantity


def _quantity(text: str) -> Quantity:
    try:
        return Quantity(parse_quantity(text))
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _is(parse: Any) -> Any:
    def run(text: str) -> bool:
        try:
            parse(text)
        except EvaluationError:
            return False
        return True

    return run


def _is_integer(quantity: Quantity) -> bool:
    return quantity.amount.denominator == 1 and LEAST_INT <= quantity.amount <= MOST_INT


def _as_integer(quantity: Quantity) -> int:
    if not _is_integer(quantity):
        raise EvaluationError("cannot convert value to integer")
    return int(quantity.amount)


register("quantity", (STRING,), QUANTITY, _quantity)
register("isQuantity", (STRING,), BOOL, _is(_quantity))
method("isInteger", (QUANTITY,), BOOL, _is_integer)
method("asInteger", (QUANTITY,), INT, _as_integer)
method("asApproximateFloat", (QUANTITY,), DOUBLE, lambda quantity: float(quantity.amount))
# The documentation shows it as a method; servers know it as a function only.
register("sign", (QUANTITY,), INT, lambda quantity: (quantity.amount > 0) - (quantity.amount < 0))
method("add", (QUANTITY, QUANTITY), QUANTITY, lambda a, b: Quantity(a.amount + b.amount))
method("add", (QUANTITY, INT), QUANTITY, lambda a, b: Quantity(a.amount + Fraction(b)))
method("sub", (QUANTITY, QUANTITY), QUANTITY, lambda a, b: Quantity(a.amount - b.amount))
method("sub", (QUANTITY, INT), QUANTITY, lambda a, b: Quantity(a.amount - Fraction(b)))
method("isLessThan", (QUANTITY, QUANTITY), BOOL, lambda a, b: a.amount < b.amount)
method("isGreaterThan", (QUANTITY, QUANTITY), BOOL, lambda a, b: a.amount > b.amount)
method(
    "compareTo",
    (QUANTITY, QUANTITY),
    INT,
    lambda a, b: (a.amount > b.amount) - (a.amount < b.amount),
)


def _url(text: str) -> Url:
    """An absolute URI or an absolute path, as Go's ParseRequestURI takes it."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise EvaluationError(f"URL parse error: {error}") from None
    if not (parts.scheme and (parts.netloc or parts.path)) and not text.startswith("/"):
        raise EvaluationError(f"URL parse error: invalid URI for request: {text!r}")
    if any(c in text for c in " \t\n\r\x7f") or ("%" in text.replace("%25", "") and not _escapes_fit(text)):
        raise EvaluationError(f"URL parse error: invalid character in {text!r}")
    return Url(parts)


def _escapes_fit(text: str) -> bool:
    hexadecimal = "0123456789abcdefABCDEF"
    return all(
        len(part) >= 2 and part[0] in hexadecimal and part[1] in hexadecimal for part in text.split("%")[1:]
    )


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _host_name(parts: SplitResult) -> str:
    host = _host(parts)
    if host.startswith("["):
        return host[1 : host.find("]")]
    return host.partition(":")[0]


register("url", (STRING,), URL, _url)
register("isURL", (STRING,), BOOL, _is(_url))
method("getScheme", (URL,), STRING, lambda url: url.parts.scheme)
method("getHost", (URL,), STRING, lambda url: _host(url.parts))
method("getHostname", (URL,), STRING, lambda url: _host_name(url.parts))
method("getPort", (URL,), STRING, lambda url: str(url.parts.port or ""))
method("getEscapedPath", (URL,), STRING, lambda url: url.parts.path)
method("getPath", (URL,), STRING, lambda url: unquote(url.parts.path))
method(
    "getQuery",
    (URL,),
    map_of(STRING, list_of(STRING)),
    lambda url: parse_qs(url.parts.query, keep_blank_values=True),
)


def _ip(text: str) -> IpAddress:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise EvaluationError(f"IP Address {text!r} parse error during conversion from string") from None
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        raise EvaluationError(f"IP Address {text!r}: IPv4-mapped addresses and zones are not allowed")
    return address


def _cidr(text: str) -> Network:
    if "/" not in text or not text.rpartition("/")[2].isdigit():
        raise EvaluationError(f"network address parse error during conversion from string: {text!r}")
    try:
        network = ipaddress.ip_interface(text)
    except ValueError:
        raise EvaluationError(
            f"network address parse error during conversion from string: {text!r}"
        ) from None
    _ip(text.partition("/")[0])
    return network


def _contains(outer: Network, inner: IpAddress | Network) -> bool:
    if outer.version != inner.version:
        return False
    if isinstance(inner, ipaddress.IPv4Interface | ipaddress.IPv6Interface):
        return cast("Any", inner.network).subnet_of(cast("Any", outer.network))
    return inner in outer.network


register("ip", (STRING,), IP, _ip)
register("isIP", (STRING,), BOOL, _is(_ip))
register("ip.isCanonical", (STRING,), BOOL, lambda text: str(_ip(text)) == text)
register("string", (IP,), STRING, str)
method("family", (IP,), INT, lambda address: address.version)
method("isUnspecified", (IP,), BOOL, lambda address: address.is_unspecified)
method("isLoopback", (IP,), BOOL, lambda address: address.is_loopback)
method(
    "isLinkLocalMulticast",
    (IP,),
    BOOL,
    lambda address: (
        address in ipaddress.ip_network("224.0.0.0/24")
        if address.version == 4
        else address.packed[0] == 0xFF and address.packed[1] & 0x0F == 0x02
    ),
)
method("isLinkLocalUnicast", (IP,), BOOL, lambda address: address.is_link_local)
method(
    "isGlobalUnicast",
    (IP,),
    BOOL,
    lambda address: (
        not (
            address.is_unspecified
            or address.is_loopback
            or address.is_multicast
            or address.is_link_local
            or str(address) == "255.255.255.255"
        )
    ),
)
register("cidr", (STRING,), CIDR, _cidr)
register("isCIDR", (STRING,), BOOL, _is(_cidr))
register("string", (CIDR,), STRING, str)
method("ip", (CIDR,), IP, lambda network: network.ip)
method("prefixLength", (CIDR,), INT, lambda network: network.network.prefixlen)
method("masked", (CIDR,), CIDR, lambda network: ipaddress.ip_interface(str(network.network)))
method("containsIP", (CIDR, IP), BOOL, _contains)
method("containsIP", (CIDR, STRING), BOOL, lambda network, text: _contains(network, _ip(text)))
method("containsCIDR", (CIDR, CIDR), BOOL, _contains)
method("containsCIDR", (CIDR, STRING), BOOL, lambda network, text: _contains(network, _cidr(text)))
