"""The accountant's policy from its message, without those of its parts that this process cannot read. Pure.

Control plane and accountants are not upgraded in one moment, so a limit may come that an older accountant has no word for.
Everybody else's limits, prices and keys are to hold all the same.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from kajitori.gateway.accounting.accountant_policy import (
    AccountantPolicy,
    BackendFacts,
    KeyFacts,
    Price,
    RouteFacts,
)
from kajitori.gateway.limits.limit import Limit, Window

_decoder = msgspec.msgpack.Decoder(AccountantPolicy)
_BY_NAME: dict[str, type[Any]] = {
    "backends": BackendFacts,
    "routes": RouteFacts,
    "keys": KeyFacts,
    "budgets": int,
}
# Stands in the place of a limit that cannot be read, since limits are known by their numbers. It holds for nobody.
UNREADABLE = "nothing"


def read_policy(message: bytes) -> tuple[AccountantPolicy, list[str]]:
    """The policy, and what of it is left out and why. Raises msgspec.DecodeError for what is no policy at all."""
    try:
        try:
            return _decoder.decode(message), []
        except msgspec.ValidationError:
            raw: Any = msgspec.msgpack.decode(message)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"the message is no policy: {error}") from None
    if not isinstance(raw, dict):
        raise msgspec.ValidationError("the message is no policy")
    return _readable(cast("dict[str, Any]", raw))


def _readable(raw: dict[str, Any]) -> tuple[AccountantPolicy, list[str]]:
    problems: list[str] = []
    found: dict[str, Any] = {}
    for field, kind in _BY_NAME.items():
        items = _object(raw.get(field))
        read = {name: _read(item, kind, f"{field}[{name}]", problems) for name, item in items.items()}
        found[field] = {name: item for name, item in read.items() if item is not None}
    limits = _list(raw.get("limits"))
    found["limits"] = [
        _read(item, Limit, _named(item, f"limits[{number}]"), problems)
        or Limit(_named(item, f"limits[{number}]"), UNREADABLE, 0.0, Window("Fixed", 1.0))
        for number, item in enumerate(limits)
    ]
    prices = _list(raw.get("prices"))
    read_prices = [_read(item, Price, f"prices[{number}]", problems) for number, item in enumerate(prices)]
    found["prices"] = [price for price in read_prices if price is not None]
    rest = {name: item for name, item in raw.items() if name not in found}
    policy = msgspec.convert(rest, AccountantPolicy)
    return msgspec.structs.replace(
        policy,
        **found | {"limits": tuple(found["limits"]), "prices": tuple(found["prices"])},
    ), problems


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _named(item: Any, place: str) -> str:
    """A limit by its own name, if that can be read."""
    name = cast("dict[str, Any]", item).get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else place


def _read(item: Any, kind: type[Any], where: str, problems: list[str]) -> Any | None:
    try:
        return msgspec.convert(item, kind)
    except msgspec.ValidationError as error:
        problems.append(f"{where}: {error}")
        return None
