"""Keeps the hosts files of a node's namespaces as services, endpoints and the node's pods change.

Files are rewritten in place, since containers have them bound: another inode would not be seen. Changes are collected
for a moment, so that a group of pods that becomes ready costs one rewrite.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import NamedTuple

from kajitori.api.resource import ENDPOINT_SLICES, SERVICES
from kajitori.control.cache import Informer
from kajitori.kube.client import Client
from kajitori.laptop.node.environment import Service
from kajitori.laptop.node.hosts import EndpointSlice, render_hosts, service_names, with_aliases

_log = logging.getLogger(__name__)

COLLECT_SECONDS = 0.05


class PodNames(NamedTuple):
    """What a pod adds. own: its names, the full one first. aliases: of `hostAliases`, they give it its own file."""

    namespace: str
    address: str
    own: list[str]
    aliases: list[tuple[str, list[str]]]


class HostsFiles:
    """Writes `hosts/<namespace>` in the node's folder, and `_hosts` in the folders of pods with aliases."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.services: Informer[Service] = Informer(client, SERVICES, Service)
        self.slices: Informer[EndpointSlice] = Informer(client, ENDPOINT_SLICES, EndpointSlice)
        self._folder = folder
        self._pods: dict[str, tuple[PodNames, Path]] = {}
        self._changed = asyncio.Event()
        self._last_write_seconds = 0.0
        self.services.on_change(lambda old, new: self._changed.set())
        self.slices.on_change(lambda old, new: self._changed.set())

    async def run(self) -> None:
        """Forever: write what has changed."""
        while True:
            await self._changed.wait()
            # Under lasting change no more than a tenth of the time goes into writing.
            await asyncio.sleep(max(COLLECT_SECONDS, 10 * self._last_write_seconds))
            self._changed.clear()
            try:
                started = time.monotonic()
                self.write_all()
                self._last_write_seconds = time.monotonic() - started
            except OSError as error:
                _log.error("hosts files cannot be written: %s", error)
                await asyncio.sleep(1.0)
                self._changed.set()

    async def synced(self) -> None:
        await self.services.synced()
        await self.slices.synced()

    def add(self, uid: str, names: PodNames, pod_folder: Path) -> Path:
        """The pod's hosts file, which names it from now on."""
        path = pod_folder / "_hosts" if names.aliases else self._folder / names.namespace
        known = self._pods.get(uid)
        self._pods[uid] = (names, path)
        if names.aliases or not path.exists():
            self._write_namespace(names.namespace)
        elif known is None or known[0] != names:
            # Its own name has to be there when it starts; the rest is in order a moment later.
            if names.own:
                _append(path, f"{names.address} {' '.join(names.own)}\n")
            self._changed.set()
        return path

    def remove(self, uid: str) -> None:
        known = self._pods.pop(uid, None)
        if known is None:
            return
        namespace = known[0].namespace
        if any(names.namespace == namespace for names, _ in self._pods.values()):
            self._changed.set()
        else:
            (self._folder / namespace).unlink(missing_ok=True)

    def write_all(self) -> None:
        for namespace in {names.namespace for names, _ in self._pods.values()}:
            self._write_namespace(namespace)

    def _write_namespace(self, namespace: str) -> None:
        names = service_names(self.services.list(), self.slices.list())
        members = [(each, path) for each, path in self._pods.values() if each.namespace == namespace]
        text = render_hosts(namespace, names, [(each.address, each.own) for each, _ in members if each.own])
        written: set[Path] = set()
        for each, path in members:
            if path not in written:
                _write_in_place(path, with_aliases(text, each.aliases))
                written.add(path)

    def services_of(self, namespace: str) -> list[Service]:
        return self.services.list(namespace)


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def _write_in_place(path: Path, text: str) -> None:
    data = text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(descriptor).st_size == len(data) and os.pread(descriptor, len(data), 0) == data:
            return
        # One write, then the cut: whoever reads in between finds whole lines, the last ones perhaps twice.
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
