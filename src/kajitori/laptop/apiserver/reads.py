"""GET: one object, lists with pages, watches.

A list is a snapshot taken in one step and then rendered in slices, so that a long one does not hold up
everybody else. Pages go on from the first page's version as long as the history covers it.
"""

from __future__ import annotations

import asyncio
import base64
import random
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.answers import base_headers, list_answer, viewed_answer
from kajitori.laptop.apiserver.converted_watch import ConvertedWatcher, follow_converted
from kajitori.laptop.apiserver.list_options import ListOptions, list_options, parse_version, watch_options
from kajitori.laptop.apiserver.protobuf_views import ProtobufView
from kajitori.laptop.apiserver.selectors import Selector, parse_fields, parse_labels
from kajitori.laptop.apiserver.views import MetadataView, PodTableView, TableView, View
from kajitori.laptop.apiserver.watch import INITIAL_EVENTS_END, Watcher

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kajitori.laptop.apiserver.request import Call
    from kajitori.laptop.apiserver.state import ServerState
    from kajitori.laptop.apiserver.store import Entry, Table

STREAMED_PROTOBUF = "application/vnd.kubernetes.protobuf;stream=watch"
SEND_BYTES = 256 << 10
FUTURE_VERSION_SECONDS = 3.0
WATCH_SECONDS = (1_800, 3_600)


def view_of(call: Call) -> View:
    view = _view_of(call)
    return ProtobufView(call.kind, view) if call.output.protobuf else view


def _view_of(call: Call) -> View:
    form = call.output.form
    if form == "table":
        include = call.query.get("includeObject") or "Metadata"
        if include not in ("None", "Metadata", "Object"):
            raise status.bad_request(
                f"unrecognized includeObject value: {include!r}: must be None, Metadata or Object"
            )
        of_pods = call.kind.resource.qualified_name == "pods"
        return (PodTableView if of_pods else TableView)(call.kind, include)
    return View(call.kind) if form == "object" else MetadataView(call.kind)


async def get_object(state: ServerState, call: Call) -> web.StreamResponse:
    target = call.target
    await await_version(state, parse_version(call.query.get("resourceVersion")))
    entry = state.store.get(call.kind.storage.qualified_name, target.namespace, target.name)
    if entry is None:
        raise status.not_found(call.kind.resource, target.name)
    if call.output.form == "metadata-list":
        raise status.not_acceptable()
    return await entry_answer(state, call, 200, entry)


async def entry_answer(state: ServerState, call: Call, code: int, entry: Entry) -> web.StreamResponse:
    """One object in the form and version that the call asks for."""
    await state.conversion.ensure(call.kind, [entry])
    return await viewed_answer(call, code, view_of(call).object(entry))


async def await_version(state: ServerState, wanted: int) -> None:
    """Wait until the store has reached a version. Raises StatusError 504 after three seconds."""
    if wanted <= state.store.version:
        return
    deadline = asyncio.get_running_loop().time() + FUTURE_VERSION_SECONDS
    while wanted > state.store.version:
        if asyncio.get_running_loop().time() > deadline:
            raise status.resource_version_too_large(wanted, state.store.version)
        await asyncio.sleep(0.05)


def selector_of(call: Call) -> Selector:
    return Selector(
        call.target.namespace,
        parse_labels(call.query.get("labelSelector")),
        parse_fields(call.query.get("fieldSelector")),
        call.kind,
    )


class _Continue(msgspec.Struct):
    """What a continue token says: the version of the first page, the last key so far. rv -1: go on as it is now."""

    v: str
    rv: int
    start: str

    def token(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()


def _read_continue(text: str) -> _Continue:
    try:
        token = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Continue)
    except (ValueError, msgspec.MsgspecError):
        raise status.bad_request(
            "invalid continue token: continue key is not valid: it was cut, or is of another server"
        ) from None
    if token.v != "meta.k8s.io/v1" or not token.start.endswith("\0") or "/" not in token.start:
        raise status.bad_request("invalid continue token: continue key is not valid: it is of another server")
    return token


class _Page:
    """Which entries a list call asks for, before its selector."""

    def __init__(self, state: ServerState, call: Call, table: Table, options: ListOptions) -> None:
        namespace = call.target.namespace
        self.version = state.store.version
        self.after: tuple[str, str] | None = None
        token_text = options.onwards
        if token_text:
            token = _read_continue(token_text)
            self.after = _split_start(token.start)
            if token.rv >= 0:
                self.version = token.rv
            exact = token.rv >= 0
        else:
            exact = options.exact
            if exact:
                self.version = options.version
        self.entries: Iterable[Entry]
        if not exact or self.version >= state.store.version:
            self.entries = table.scan(namespace, self.after)
        elif table.history.covers(self.version):
            found = table.as_of(self.version, namespace)
            after = self.after
            self.entries = (
                [entry for entry in found if (entry.namespace, entry.name) > after] if after else found
            )
        else:
            raise self._too_old(token_text)

    def _too_old(self, token_text: str) -> status.StatusError:
        error = status.expired()
        if token_text and self.after is not None:
            onwards = _Continue("meta.k8s.io/v1", -1, _start(*self.after))
            error.status["message"] = (
                "The provided continue parameter is too old to display a consistent list result. You can "
                "start a new list without the continue parameter, or use the continue token in this response "
                "to retrieve the remainder of the results."
            )
            error.status["metadata"] = {"continue": onwards.token()}
        return error


def _start(namespace: str, name: str) -> str:
    return f"{namespace}/{name}\0"


def _split_start(start: str) -> tuple[str, str]:
    namespace, _, name = start[:-1].partition("/")
    return namespace, name


async def list_objects(state: ServerState, call: Call) -> web.StreamResponse:
    options = list_options(call.query)
    if not options.onwards:
        await await_version(state, options.version)
    selector = selector_of(call)
    view = view_of(call)
    table = state.store.table(call.kind.storage.qualified_name)
    if selector.fields:
        await state.conversion.ensure(call.kind, table.scan(selector.namespace))
    metadata: dict[str, Any] = {"resourceVersion": ""}
    if selector.name and (selector.namespace or not call.kind.namespaced) and not options.onwards:
        entry = table.entries.get((selector.namespace, selector.name))
        page = _Page(state, call, table, options)
        entries = [entry] if entry is not None and selector.matches(entry) else []
    else:
        page = _Page(state, call, table, options)
        entries = _selected(page, selector, options.limit, metadata)
    metadata["resourceVersion"] = str(page.version)
    items: list[bytes] = []
    if not view.metadata_only:
        await state.conversion.ensure(call.kind, entries)
    size = view.slice_size
    for start in range(0, len(entries), size):
        items.extend(view.items(entries[start : start + size]))
        if start + size < len(entries):
            await asyncio.sleep(0)
    return await list_answer(call, view.wrap(items, metadata))


def _selected(page: _Page, selector: Selector, limit: int, metadata: dict[str, Any]) -> list[Entry]:
    """Entries of this page; notes in metadata how to go on."""
    matching = selector.select(page.entries)
    if limit <= 0:
        return list(matching)
    entries = list(islice(matching, limit))
    following = next(matching, None)
    if following is not None:
        last = entries[-1]
        metadata["continue"] = _Continue(
            "meta.k8s.io/v1", page.version, _start(last.namespace, last.name)
        ).token()
        if selector.everything:
            metadata["remainingItemCount"] = 1 + sum(1 for _ in matching)
    return entries


class _Stream:
    """The answer of a watch: framed lines written as they come, waiting for the reader."""

    def __init__(self, writer: Any, transport: asyncio.Transport) -> None:
        self._writer = writer
        self.transport = transport

    async def send(self, lines: Iterable[bytes]) -> None:
        block: list[bytes] = []
        size = 0
        for line in lines:
            block.append(line)
            size += len(line)
            if size >= SEND_BYTES:
                await self._write(b"".join(block))
                block, size = [], 0
        if block:
            await self._write(b"".join(block))

    async def _write(self, data: bytes) -> None:
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        await self._writer.drain()


async def watch_objects(state: ServerState, call: Call) -> web.StreamResponse:
    options = watch_options(call.query)
    version = options.version
    selector = selector_of(call)
    view = view_of(call)
    seconds = options.seconds or random.randint(*WATCH_SECONDS)
    resource = call.kind.storage.qualified_name
    if options.present_first:
        await await_version(state, version)
    transport = call.http.transport
    if transport is None:
        raise ConnectionResetError
    response = web.StreamResponse(
        headers=base_headers(call, STREAMED_PROTOBUF if call.output.protobuf else "application/json")
    )
    response.enable_chunked_encoding()
    writer = await response.prepare(call.http)
    assert writer is not None
    writer.send_headers()
    stream = _Stream(writer, transport)
    converted = call.kind.conversion is not None and not view.metadata_only
    watcher = (ConvertedWatcher if converted else Watcher)(selector, view, transport, options.bookmarks)
    if version == 0 and not options.present_first:
        version = state.store.version
    timer = asyncio.get_running_loop().call_later(seconds, watcher.end)
    try:
        await _run_watch(state, resource, watcher, stream, version, options.present_first, options.mark_end)
    finally:
        timer.cancel()
        state.hub.leave(resource, watcher)
    await response.write_eof()
    return response


async def _run_watch(
    state: ServerState,
    resource: str,
    watcher: Watcher,
    stream: _Stream,
    version: int,
    present_first: bool,
    mark_end: bool,
) -> None:
    table = state.store.table(resource)
    watcher.version = version
    if present_first:
        watcher.version = state.store.version
        entries = list(watcher.selector.select(table.scan(watcher.selector.namespace)))
        if isinstance(watcher, ConvertedWatcher):
            await state.conversion.ensure(watcher.view.kind, entries)
        await stream.send(watcher.initial_lines(entries))
        if mark_end:
            await stream.send([watcher.bookmark(watcher.version, {INITIAL_EVENTS_END: "true"})])
    if isinstance(watcher, ConvertedWatcher):
        await follow_converted(state, resource, watcher, stream.send)
        return
    if not await state.hub.catch_up(table, watcher, stream.send):
        await stream.send([watcher.too_old(state.store.version)])
        return
    if not watcher.done.done() and not state.stopping.is_set():
        state.hub.join(resource, watcher)
        await watcher.done
    watcher.send_bookmark(state.store.version)
