"""One API server, assembled: store, watches, kinds, identity, rights, and the sockets that lead to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from kajitori.base.clock import parse_rfc3339
from kajitori.base.errors import UsageError
from kajitori.base.unix_sockets import short_path
from kajitori.laptop.apiserver import pki
from kajitori.laptop.apiserver.addresses import ServiceAddresses
from kajitori.laptop.apiserver.auth import AUTHENTICATED, Authenticator, User, read_static_tokens
from kajitori.laptop.apiserver.bodies import BODY_BYTES_LIMIT
from kajitori.laptop.apiserver.bootstrap import bootstrap
from kajitori.laptop.apiserver.definitions import Definitions
from kajitori.laptop.apiserver.http import Handler
from kajitori.laptop.apiserver.kinds import Registry
from kajitori.laptop.apiserver.malformed import log_in_one_line
from kajitori.laptop.apiserver.node_rights import NodeRights
from kajitori.laptop.apiserver.rbac import Authorizer
from kajitori.laptop.apiserver.renumbering import renumber
from kajitori.laptop.apiserver.role_aggregation import RoleAggregation
from kajitori.laptop.apiserver.state import ServerState
from kajitori.laptop.apiserver.store import Decision, Deleted, Entry, Key, Store
from kajitori.laptop.apiserver.tokens import TokenSigner
from kajitori.laptop.apiserver.watch import BOOKMARK_SECONDS, Hub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kajitori.laptop.settings import ClusterSettings

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
EVENTS_KEPT_SECONDS = 3_600.0
SWEEP_SECONDS = 300.0
STOP_SECONDS = 5.0
KEEPALIVE_SECONDS = 90.0
# Commands of an exec and label selectors travel in the request line.
REQUEST_LINE_BYTES = 128 << 10


class ApiServer:
    """`start` opens the state and listens; `stop` ends watches, finishes writes and closes.

    port 0: any free one, see `port` after the start.
    """

    def __init__(self, home: Path, settings: ClusterSettings, *, port: int | None = None) -> None:
        self._home = home
        self._clients = home / "pki" / "clients"
        self._settings = settings
        self.port = settings.port if port is None else port
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.Server] = []
        self._webs: list[web.Server] = []
        self.state: ServerState

    async def start(self) -> None:
        """Raises UsageError if the port is taken, CorruptState if the state cannot be read."""
        folder = self._home / "pki"
        authority = pki.Authority(folder)
        store = Store(self._home / "data" / "state.db")
        store.start()
        signer = TokenSigner(pki.service_account_key(folder))
        authenticator = Authenticator(store, signer, read_static_tokens(folder / "tokens.csv"))
        self.state = ServerState(
            home=self._home,
            server="",
            store=store,
            hub=Hub(store),
            registry=Registry(),
            authenticator=authenticator,
            authorizer=Authorizer(store, NodeRights(store)),
            signer=signer,
            addresses=ServiceAddresses(store, self._settings.service_cidr),
        )
        try:
            await self._open(authority)
        except BaseException:
            await store.stop()
            raise

    async def _open(self, authority: pki.Authority) -> None:
        state = self.state
        state.addresses.load()
        definitions = Definitions(state)
        definitions.load()
        state.api_services.load()
        aggregation = RoleAggregation(state.store)
        log_in_one_line()
        # Requests wait in the socket until everything is in place.
        await self._listen(self._context(authority))
        for identity in pki.component_identities(self._settings.node_names):
            await self._listen_for(identity)
        state.server = f"https://{HOST}:{self.port}"
        moved = await renumber(state, self._settings)
        if moved:
            log.warning("another cluster took this one's addresses: %d objects have new ones", moved)
        await bootstrap(state, self._settings.kubernetes_service_address, self.port)
        self._write_kubeconfigs(authority)
        for server in self._servers:
            await server.start_serving()
        for run in (
            definitions.run,
            aggregation.run,
            state.api_services.run,
            self._bookmarks,
            self._sweep_events,
        ):
            self._tasks.append(asyncio.create_task(_for_ever(run), name=run.__qualname__))

    def _context(self, authority: pki.Authority) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*authority.server_certificate(self._settings.kubernetes_service_address))
        context.load_verify_locations(cadata=authority.certificate.decode())
        # Who shows no certificate may still have a token.
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def _listen(self, context: ssl.SSLContext) -> None:
        try:
            server = await asyncio.get_running_loop().create_server(
                self._new_web(), HOST, self.port, ssl=context, backlog=1_024, start_serving=False
            )
        except OSError as error:
            raise UsageError(
                f"cannot listen on {HOST}:{self.port}: {error.strerror or error}",
                hint="another program has this port; choose one with --port",
            ) from None
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]

    async def _listen_for(self, identity: pki.Identity) -> None:
        """A socket beside the identity's kubeconfig, for whoever may read that: what lives on this machine does without TLS."""
        path = self._clients / f"{identity.file}.sock"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        peer = User(identity.user, (*identity.groups, AUTHENTICATED))
        with short_path(path) as name:
            server = await asyncio.get_running_loop().create_unix_server(
                self._new_web(peer), name, backlog=1_024, start_serving=False
            )
            os.chmod(name, 0o600)
        self._servers.append(server)

    def _new_web(self, peer: User | None = None) -> web.Server:
        made = web.Server(
            Handler(self.state, peer),
            request_factory=_make_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=0,
            max_line_size=REQUEST_LINE_BYTES,
            max_field_size=REQUEST_LINE_BYTES,
        )
        self._webs.append(made)
        return made

    def _write_kubeconfigs(self, authority: pki.Authority) -> None:
        server = self.state.server
        pki.write_kubeconfig(self._home / "kubeconfig", server, authority, pki.ADMIN)
        for identity in pki.component_identities(self._settings.node_names):
            path = self._clients / f"{identity.file}.kubeconfig"
            pki.write_kubeconfig(path, server, authority, identity)

    async def stop(self) -> None:
        state = self.state
        state.stopping.set()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        state.hub.end_all()
        # Watches have been told to end: their last bytes go out before connections are closed.
        await asyncio.sleep(0.05)
        # Without this, connections that are merely kept alive would be waited for.
        for each in self._webs:
            each.pre_shutdown()
        await asyncio.gather(*(each.shutdown(STOP_SECONDS) for each in self._webs))
        await state.admission.close()
        await state.api_services.close()
        await state.store.stop()

    async def _bookmarks(self) -> None:
        await asyncio.sleep(BOOKMARK_SECONDS)
        self.state.hub.bookmark_all()

    async def _sweep_events(self) -> None:
        """Events older than an hour go."""
        await asyncio.sleep(SWEEP_SECONDS)
        oldest = time.time() - EVENTS_KEPT_SECONDS
        store = self.state.store
        for entry in list(store.table("events").scan()):
            if _last_seen(entry.decode()) < oldest:
                await store.mutate(Key("events", entry.namespace, entry.name), _gone_if(oldest))


def _gone_if(oldest: float) -> Callable[[Entry | None], Decision]:
    def decide(before: Entry | None) -> Decision:
        if before is None:
            return None
        event = before.decode()
        return Deleted(event) if _last_seen(event) < oldest else None

    return decide


def _last_seen(event: dict[str, Any]) -> float:
    series = event.get("series") or {}
    for text in (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    ):
        if text:
            with contextlib.suppress(ValueError):
                return parse_rfc3339(text)
    return 0.0


async def _for_ever(step: Callable[[], Awaitable[None]]) -> None:
    """Repeat a step; a fault in it is logged and does not end the rest."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("%s failed", step)
            await asyncio.sleep(1.0)


def _make_request(
    message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
) -> web.BaseRequest:
    return web.BaseRequest(
        message,
        payload,
        protocol,
        writer,
        task,
        asyncio.get_running_loop(),
        client_max_size=BODY_BYTES_LIMIT,
    )
