"""How one Envoy is asked what it refuses: by resources that serve nobody and go when all is known.

Routes are tried in a table of their own, which a listener asks for that opens no port; chains of a listener, and filters, in
such a listener itself. Envoy judges them as it judges those that serve, and connections notice nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.base.errors import InvalidManifest
from kajitori.gateway.envoy.encoded import Encoded, encoded
from kajitori.gateway.envoy.forms import PROBE
from kajitori.gateway.resources import EXTENSION, LISTENER, ROUTES, TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.gateway.envoy.xds import Snapshot

_TABLES, _TRIED = PROBE, f"{PROBE}.tried"
_HTTP = TYPE + "envoy.extensions.filters."
# Nothing is opened there; of two listeners no address may be the same.
_PORTS = {_TABLES: 1, _TRIED: 2}


def is_probe(name: str) -> bool:
    return name.startswith(PROBE)


class Message(NamedTuple):
    """What is to be sent: resources of one type, or names that go."""

    kind: str
    due: dict[str, Encoded]
    gone: list[str]


class Inquiry:
    """Of one stream."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._listeners: set[str] = set()
        self._asked = False

    def next(self, free: Callable[[str], bool], subscribed: Callable[[str], bool]) -> Message | None:
        """What is to be sent next. free: whether nothing of a type is under way. subscribed: whether Envoy asks for a
        table by this name.
        """
        if not free(LISTENER) or not free(ROUTES) or self._asked:
            return None
        case = self._snapshot.case_for(self)
        while case is not None:
            question = case.question()
            if question is None:
                case = self._snapshot.case_for(self)
                continue
            try:
                return self._message(case.kind, question, subscribed)
            except InvalidManifest as error:
                self._snapshot.answered(self, str(error))
        if self._listeners:
            gone, self._listeners = sorted(self._listeners), set()
            return Message(LISTENER, {}, gone)
        return None

    def _message(
        self, kind: str, question: dict[str, Any], subscribed: Callable[[str], bool]
    ) -> Message | None:
        if kind != ROUTES:
            self._asked = True
            return self._listener(_TRIED, _tried(kind, question))
        if _TABLES not in self._listeners:
            return self._listener(_TABLES, _asking_for_tables())
        if not subscribed(PROBE):
            return None
        tried = encoded(ROUTES, question, self._snapshot.encode)
        self._asked = True
        return Message(ROUTES, {PROBE: tried}, [])

    def _listener(self, name: str, value: dict[str, Any]) -> Message:
        nowhere = {"socket_address": {"address": "127.0.0.1", "port_value": _PORTS[name]}}
        listener = {**value, "name": name, "address": nowhere, "bind_to_port": False}
        made = encoded(LISTENER, listener, self._snapshot.encode)
        self._listeners.add(name)
        return Message(LISTENER, {name: made}, [])

    def answer(self, refused: str | None) -> None:
        """What Envoy said to a message of `next` with something in it: None that it took it."""
        if self._asked:
            self._asked = False
            self._snapshot.answered(self, refused)
        elif refused is not None:
            # It does not even take what tries are made with.
            self._snapshot.answered(self, refused, final=True)


def _asking_for_tables() -> dict[str, Any]:
    source = {"ads": {}, "resource_api_version": "V3"}
    return _with_manager({"rds": {"route_config_name": PROBE, "config_source": source}}, [])


def _tried(kind: str, question: dict[str, Any]) -> dict[str, Any]:
    if kind == EXTENSION:
        tried = {"name": question["name"], "typed_config": question["typed_config"]}
        return _with_manager({"route_config": {"name": PROBE}}, [tried])
    return question


def _with_manager(routes: dict[str, Any], filters: list[dict[str, Any]]) -> dict[str, Any]:
    router = {"@type": f"{_HTTP}http.router.v3.Router"}
    manager = {
        "@type": f"{_HTTP}network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": PROBE,
        **routes,
        "http_filters": [*filters, {"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"filter_chains": [chain]}
