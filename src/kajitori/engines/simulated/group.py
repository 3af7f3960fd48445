"""Rank 0's side of a simulated group: waits for the others, watches them, and ends the group when one is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kajitori.engines.simulated.membership import (
    ALIVE_SECONDS,
    LINE_BYTES,
    SILENT_SECONDS,
    Join,
    parse_join,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kajitori.engines.simulated.arguments import Settings

    Log = Callable[[str], None]


class GroupLost(Exception):
    """A rank is gone; the text says which and how."""


class Group:
    """The ranks 1 to nodes-1, each over one connection that it opens.

    formed: set when all are there. node_names: where the ranks run, as far as they say.
    """

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._members: dict[int, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self.node_names: dict[int, str] = {}
        self.formed = asyncio.Event()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._conversations: set[asyncio.Task[None]] = set()
        self.ending = False
        if settings.nodes == 1:
            self.formed.set()

    async def listen(self, address: str) -> None:
        """Open the meeting place. Raises OSError where the address cannot be bound."""
        if self._settings.nodes > 1:
            self._server = await asyncio.start_server(
                self._accept, address, self._settings.rendezvous_port, limit=LINE_BYTES
            )
            self._log(
                f"waiting for {self._settings.nodes - 1} ranks on port {self._settings.rendezvous_port}"
            )

    async def watch(self) -> None:
        """Return never; raise GroupLost when a rank is lost, or when they are not all there in time."""
        beats = asyncio.create_task(self._beat())
        try:
            deadline = None if self.formed.is_set() else self._settings.rendezvous_seconds
            waiting = asyncio.create_task(self.formed.wait())
            await asyncio.wait({waiting, self._lost}, timeout=deadline, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not self.formed.is_set() and not self._lost.done():
                raise GroupLost(f"ranks {self._missing()} did not join within {deadline:.0f} s")
            raise GroupLost(await self._lost)
        finally:
            beats.cancel()

    async def close(self, word: str) -> None:
        """Say a last word to every member and let go of them."""
        self.ending = True
        if self._server is not None:
            self._server.close()
        writers = list(self._members.values())
        for writer in writers:
            writer.write(f"{word}\n".encode())
        for writer in writers:
            try:
                async with asyncio.timeout(1):
                    await writer.drain()
                writer.close()
            except (OSError, TimeoutError):
                continue

        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self._member(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    def _missing(self) -> str:
        missing = [str(rank) for rank in range(1, self._settings.nodes) if rank not in self._members]
        return ", ".join(missing)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            for writer in self._members.values():
                writer.write(b"alive\n")

    async def _member(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        join: Join | None = None
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                line = await reader.readline()
            answer = self._admit(parse_join(line))
            if isinstance(answer, str):
                writer.write(f"refused {answer}\n".encode())
                await writer.drain()
                return
            join = answer
            self._members[join.rank] = writer
            self.node_names[join.rank] = join.node_name
            writer.write(b"joined\n")
            if len(self._members) == self._settings.nodes - 1 and not self.formed.is_set():
                self.formed.set()
            await self._hear(reader, join.rank)
        except (OSError, ValueError, TimeoutError) as error:
            if join is not None:
                self._report(join.rank, "silent" if isinstance(error, TimeoutError) else str(error))
        finally:
            if join is not None and self._members.get(join.rank) is writer:
                del self._members[join.rank]
            writer.close()

    def _admit(self, join: Join | str) -> Join | str:
        settings = self._settings
        if isinstance(join, str):
            return join
        if join.nodes != settings.nodes or not 0 < join.rank < settings.nodes:
            return f"rank {join.rank} of {join.nodes}, but this group has {settings.nodes}"
        if join.model != settings.model:
            return f"it serves {join.model}, this group serves {settings.model}"
        if join.rank in self._members:
            return f"rank {join.rank} is here already"
        if self.formed.is_set():
            return "the group was formed before and lost this rank"
        return join

    async def _hear(self, reader: asyncio.StreamReader, rank: int) -> None:
        """Until the member is lost."""
        while True:
            async with asyncio.timeout(SILENT_SECONDS):
                line = await reader.readline()
            if not line:
                self._report(rank, "its connection closed")
                return
            if line.strip() == b"leaving":
                self._report(rank, "it was asked to end")
                if not self.ending:
                    return

    def _report(self, rank: int, how: str) -> None:
        # Before the group is formed a rank may come back: its pod was restarted while the others still start.
        if self.ending or not self.formed.is_set() or self._lost.done():
            return
        self._lost.set_result(f"rank {rank} was lost: {how}")
