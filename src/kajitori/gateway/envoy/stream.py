"""One Envoy's stream of discovery: what it asked for, what it has, what it is sent next.

Order is make before break. Within one change clusters go first, with the endpoints and secrets that they ask for;
listeners and routes wait until Envoy has confirmed those, so that no route names a cluster that is not ready. What
is no longer wanted is taken away after that. A refusal (NACK) is recorded with its reason; Envoy keeps what it had, and so do we for its next start.
Of what many objects share it is found out which part was meant (`kajitori.gateway.envoy.inquiry`), and the rest goes out without it.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from kajitori.gateway.envoy.inquiry import Inquiry, Message, is_probe
from kajitori.gateway.envoy.repeating import ACKNOWLEDGED_AGAIN, LOOKED_AT_ONCE, written_otherwise
from kajitori.gateway.envoy.shards import SHARDS, shard_name, table_of
from kajitori.gateway.envoy.subscription import Subscription
from kajitori.gateway.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSION,
    LISTENER,
    ROUTES,
    SCOPES,
    SECRET,
    TYPE,
    TYPES,
)

if TYPE_CHECKING:
    from kajitori.gateway.envoy.ads import AdsServer
    from kajitori.gateway.envoy.encoded import Encoded
    from kajitori.gateway.envoy.xds import Snapshot

# A step that Envoy does not confirm for so long holds up the next one no longer.
_PATIENCE_SECONDS = 1.0
_ASKED_FOR_BY_NAME = (ENDPOINTS, SECRET, EXTENSION, ROUTES)
# What something of before, which is in force because Envoy refused what was to follow, may need.
_NEEDED = (CLUSTER, ENDPOINTS, SECRET)
# What goes together. Envoy confirms a cluster only when it has the secrets and endpoints that the cluster asks for,
# and a listener may wait for its routes and its filters in the same way.
_STAGES = ((SECRET, ENDPOINTS, CLUSTER), (LISTENER, EXTENSION, SCOPES, ROUTES))


def _names(message: str, name: str) -> bool:
    """Whether a message speaks of this resource, and not just of one whose longer name contains it."""
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/-]|\.\w)", message) is not None


class Stream:
    """One Envoy."""

    def __init__(self, server: AdsServer, snapshot: Snapshot) -> None:
        self._server = server
        self._snapshot = snapshot
        self._subscriptions: dict[str, Subscription] = {kind: Subscription() for kind in TYPES}
        self._nonces = itertools.count(1)
        self._waiting_since: float | None = None
        self._closed = False
        self._inquiry = Inquiry(snapshot)
        # Types of which it has said what it has from before, and nobody has looked at that.
        self._introduced: set[str] = set()
        self.wake = asyncio.Event()

    @property
    def settled(self) -> bool:
        return (
            all(self._is_settled(kind) for kind in TYPES)
            and not any(self._removals(kind) for kind in TYPES)
            and not self._snapshot.asks
        )

    def leave(self) -> None:
        """Another stream finds out what this one was about to."""
        before = self._snapshot.rejected
        self._snapshot.leave(self._inquiry)
        self._server.found_out(before)

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Takes in what Envoy asks for and confirms."""
        try:
            async for request in requests:
                kind = request.type_url.removeprefix(TYPE)
                subscription = self._subscriptions.get(kind)
                if subscription is not None:
                    self._take(kind, subscription, request)
                    self.wake.set()
        finally:
            self._closed = True
            self.wake.set()

    def _take(self, kind: str, subscription: Subscription, request: Any) -> None:
        first = not subscription.wildcard and not subscription.names and not subscription.has
        subscribe = list(request.resource_names_subscribe)
        if first:
            subscription.has.update(request.initial_resource_versions)
            subscription.holds.update(request.initial_resource_versions)
            self._introduced.add(kind)
            if not subscribe and not request.response_nonce and kind in (CLUSTER, LISTENER, SCOPES):
                subscription.wildcard = True
        for name in subscribe:
            if name == "*":
                subscription.wildcard = True
            else:
                subscription.names.add(name)
                # Asking again means that Envoy wants an answer, though we may have given one before.
                if name not in request.initial_resource_versions:
                    subscription.has.pop(name, None)
                subscription.told_missing.discard(name)
        for name in request.resource_names_unsubscribe:
            subscription.names.discard(name)
            subscription.forget(name)
            subscription.told_missing.discard(name)
        outstanding = subscription.outstanding
        if request.response_nonce and outstanding and outstanding[0] == request.response_nonce:
            subscription.outstanding = None
            refused = request.error_detail.message if request.HasField("error_detail") else None
            before = self._snapshot.rejected
            if any(is_probe(name) for name in outstanding[1]):
                self._inquiry.answer(refused)
                self._server.found_out(before)
            elif refused is not None:
                self._refused(kind, subscription, outstanding[1], refused)
            else:
                self._acknowledged(kind, subscription, outstanding[1])

    def _acknowledged(self, kind: str, subscription: Subscription, sent: dict[str, Encoded]) -> None:
        before = self._snapshot.rejected
        for name, encoded in sent.items():
            version, message = subscription.refused.pop(name, ("", ""))
            if version == encoded.version and kind in ACKNOWLEDGED_AGAIN:
                self._refused(kind, subscription, {name: encoded}, message)
                continue
            self._snapshot.accept(kind, name, encoded)
            subscription.holds[name] = encoded.version
        self._server.tell_refusals(before)

    def _refused(self, kind: str, subscription: Subscription, sent: dict[str, Encoded], message: str) -> None:
        """Finds out which resource was meant; the others of the same message are sent again without it."""
        guilty = [name for name in sent if _names(message, name)] if len(sent) > 1 else list(sent)
        for name in sent:
            if name not in guilty:
                subscription.has.pop(name, None)
                if not guilty:
                    subscription.one_by_one.add(name)
        before = self._snapshot.rejected
        for name in guilty:
            subscription.refused[name] = sent[name].version, message
            port_taken = kind == LISTENER and "Address already in use" in message
            self._snapshot.refuse(kind, name, sent[name], message, None if port_taken else self._inquiry)
            now = self._snapshot.effective(kind, name)
            # What is to be sent all the same, since another Envoy takes it, is not sent again and again.
            if now is None or now.version != sent[name].version:
                subscription.keeps_what_it_had(name)
            if port_taken:
                self._server.retry_later(kind, name)
        self._server.found_out(before)

    def send_again(self, kind: str, name: str) -> None:
        """As if Envoy had never got it."""
        self._subscriptions[kind].has.pop(name, None)
        self.wake.set()

    async def responses(self) -> AsyncIterator[Any]:
        """Yields what is due, and sleeps in between."""
        while not self._closed:
            self.wake.clear()
            if self._server.ready:
                while (response := self._next()) is not None:
                    yield response
            timeout = _PATIENCE_SECONDS if self._waiting_since is not None else None
            try:
                await asyncio.wait_for(self.wake.wait(), timeout)
            except TimeoutError:
                continue

    def _next(self) -> Any | None:
        """The next message that may go out now."""
        while self._introduced:
            kind = self._introduced.pop()
            self._snapshot.accept_known(kind, self._subscriptions[kind].holds)
        before = self._snapshot.rejected if self._snapshot.asks else None
        tried = self._inquiry.next(self._is_free, self._asks_for_tables)
        if before is not None and not self._snapshot.asks:
            self._server.found_out(before)
        if tried is not None:
            return self._try(tried)
        now = asyncio.get_running_loop().time()
        patient = self._waiting_since is None or now - self._waiting_since < _PATIENCE_SECONDS
        for stage in _STAGES:
            for kind in stage:
                subscription = self._subscriptions[kind]
                if subscription.outstanding is None:
                    due = self._due(kind, subscription)
                    missing = self._missing(kind, subscription)
                    # Even nothing is an answer, which a starting Envoy waits for.
                    if due or missing or subscription.waits_for_nothing:
                        return self._response(kind, subscription, due, missing)
            unsettled = [kind for kind in stage if not self._is_settled(kind)]
            if unsettled and patient:
                self._waiting_since = now if self._waiting_since is None else self._waiting_since
                return None
            for kind in unsettled:
                # What refers to these was refused, or nothing does.
                subscription = self._subscriptions[kind]
                subscription.unasked = set(self._snapshot.resources[kind]) - subscription.names
        # Everything new is in place: what it replaced may go, in the opposite order.
        for kind in reversed(TYPES):
            subscription = self._subscriptions[kind]
            if subscription.outstanding is None and (gone := self._removals(kind)):
                return self._response(kind, subscription, {}, gone)
            if subscription.outstanding is not None and patient:
                self._waiting_since = now if self._waiting_since is None else self._waiting_since
                return None
        self._waiting_since = None
        return None

    def _is_free(self, kind: str) -> bool:
        """Whether nothing of a type is under way to an Envoy that has its listeners, or at least the first of them."""
        listeners = self._subscriptions[LISTENER]
        known = listeners.wildcard and not listeners.waits_for_nothing
        return known and self._subscriptions[kind].outstanding is None

    def _asks_for_tables(self, name: str) -> bool:
        return name in self._subscriptions[ROUTES].names

    def _try(self, tried: Message) -> Any:
        subscription = self._subscriptions[tried.kind]
        response = self._response(tried.kind, subscription, tried.due, tried.gone)
        for name in (*tried.due, *tried.gone):
            # It is not among what Envoy shall have.
            subscription.has.pop(name, None)
            subscription.told_missing.discard(name)
        return response

    def _due(self, kind: str, subscription: Subscription) -> dict[str, Encoded]:
        has = subscription.has
        due: dict[str, Encoded] = {}
        wanted = self._snapshot.resources[kind]
        special = self._snapshot.refused_of(kind)
        if not special and has == self._snapshot.versions[kind]:
            return {}
        differ = [
            name
            for name in (wanted if subscription.wildcard else subscription.names & wanted.keys())
            if has.get(name) != wanted[name].version or name in special
        ]
        for name in differ:
            if kind == ROUTES and self._waits_for_shards(name, subscription):
                continue
            encoded = self._snapshot.effective(kind, name)
            if encoded is not None and has.get(name) != encoded.version:
                if name in subscription.holds and self._snapshot.stands_in(kind, encoded):
                    continue
                due[name] = encoded
                if name in subscription.one_by_one:
                    subscription.one_by_one.discard(name)
                    return {name: written_otherwise(kind, encoded, self._snapshot.encode)}
                if kind in LOOKED_AT_ONCE:
                    break
        return due | self._former_shards() if kind == SCOPES else due

    def _former_shards(self) -> dict[str, Encoded]:
        """Scopes of shards that lead to their whole table, as soon as Envoy has it: they stay, and cost nothing."""
        scopes, tables = self._subscriptions[SCOPES], self._subscriptions[ROUTES]
        due: dict[str, Encoded] = {}
        for name in self._snapshot.former_shards(scopes.has):
            table = table_of(name)
            sent = self._snapshot.effective(ROUTES, table)
            if sent is not None and tables.holds.get(table) == sent.version:
                made = self._snapshot.of_former_shard(name)
                if scopes.has[name] != made.version:
                    due[name] = made
        return due

    def _waits_for_shards(self, table: str, subscription: Subscription) -> bool:
        """Whether requests that a table passes on to its shards would not find all of them."""
        wanted = self._snapshot.resources[ROUTES]
        if shard_name(table, 0) not in wanted:
            return False
        for number in range(SHARDS):
            shard = shard_name(table, number)
            encoded = self._snapshot.effective(ROUTES, shard)
            asked = shard in subscription.names
            if asked and encoded is None and self._snapshot.asks:
                # It was refused before there was one, and goes out when it is known what has to be left out.
                return True
            if asked and encoded is not None and subscription.has.get(shard) != encoded.version:
                return True
            if not asked and shard not in subscription.unasked:
                return True
        return False

    def _missing(self, kind: str, subscription: Subscription) -> list[str]:
        """Names that are asked for and do not exist: said once, so that Envoy does not wait for them."""
        if subscription.wildcard:
            return []
        return [
            name
            for name in subscription.names - self._snapshot.resources[kind].keys()
            if name not in subscription.told_missing and name not in subscription.has and not is_probe(name)
        ]

    def _removals(self, kind: str) -> list[str]:
        subscription = self._subscriptions[kind]
        if kind in _NEEDED and self._may_need_what_goes():
            return []
        gone = [name for name in subscription.has if name not in self._snapshot.resources[kind]]
        if kind == SCOPES and gone:
            kept = self._snapshot.former_shards(gone)
            return [name for name in gone if name not in kept]
        return gone

    def _may_need_what_goes(self) -> bool:
        """Whether it has something of before in force that is not known, now or ever."""
        return self._snapshot.asks or any(
            name in self._subscriptions[kind].holds for kind, name in self._snapshot.unknown
        )

    def _is_settled(self, kind: str) -> bool:
        subscription = self._subscriptions[kind]
        if subscription.outstanding is not None or self._due(kind, subscription):
            return False
        if kind in _ASKED_FOR_BY_NAME:
            # Clusters and listeners that Envoy has just got ask for these a moment later.
            return self._snapshot.resources[kind].keys() <= subscription.names | subscription.unasked
        return subscription.wildcard or self._snapshot.resources[kind].keys() <= subscription.unasked

    def _response(
        self, kind: str, subscription: Subscription, due: dict[str, Encoded], gone: list[str]
    ) -> Any:
        nonce = str(next(self._nonces))
        subscription.answered = True
        url = TYPE + kind
        response = self._server.response_class(
            system_version_info=nonce, type_url=url, nonce=nonce, removed_resources=gone
        )
        for name, encoded in due.items():
            subscription.has[name] = encoded.version
            item = response.resources.add(name=name, version=encoded.version)
            item.resource.type_url = url
            item.resource.value = encoded.data
        for name in gone:
            subscription.forget(name)
            subscription.told_missing.add(name)
            self._snapshot.taken_away(kind, name)
        if kind == CLUSTER:
            self._send_endpoints_again(due)
        if kind == LISTENER and not all(map(is_probe, due)):
            # The first listener of an Envoy waits for the scopes of tables, but only asks for them once, ever.
            # What goes is to be remembered, or it would never be taken away.
            scopes = self._subscriptions[SCOPES]
            scopes.has = dict.fromkeys(scopes.has, "")
        subscription.outstanding = (nonce, due)
        return response

    def _send_endpoints_again(self, clusters: dict[str, Encoded]) -> None:
        """A cluster that is new or changed waits for its endpoints anew, but asks for them only if no other one has."""
        has = self._subscriptions[ENDPOINTS].has
        for encoded in clusters.values():
            has.pop(encoded.value.get("eds_cluster_config", {}).get("service_name", ""), None)
