"""Counts in Redis or Valkey, so that a limit holds across all gateways that share it.

Each decision is one script, which runs inside the server and alone, so two gateways cannot both take the last
of a budget. What is asked while an answer is awaited goes in one write with the next. All names carry one hash tag:
limits of one request must lie together to be taken together, so a cluster keeps them in one of its slots.

A server that does not answer in time is left alone for a moment; until then every question fails at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kajitori.gateway.limits.decision import Hold, Outcome, Standing, Taken
from kajitori.gateway.limits.store import LATE_SECONDS, MOST_SLOTS, Receipt, Reservation, StoreLost

if TYPE_CHECKING:
    from redis.asyncio import Redis

_log = logging.getLogger(__name__)

_FOLDER = files("kajitori.gateway.limits") / "redis_scripts"
_SHARED = (_FOLDER / "shared.lua").read_text()
# More than a piece of the log tells of: its endings and what is kept of them go in one write.
_MOST_AT_ONCE = 1_000


class _Script:
    """A script and the name by which a server that has seen it knows it."""

    def __init__(self, name: str) -> None:
        self.text = _SHARED + (_FOLDER / f"{name}.lua").read_text()
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_RESERVE, _SETTLE, _SWEEP, _BOOK = (_Script(name) for name in ("reserve", "settle", "sweep", "book"))
_Call = tuple[_Script | None, tuple[Any, ...], "asyncio.Future[Any]"]


class RedisStore:
    """url: as redis-py has it, such as `redis://:password@host:6379/0` or `rediss://`. prefix: of all names.

    timeout_seconds: for a step of an answer, of which all may take twice as long; Envoy waits two seconds for a verdict.
    back_off_seconds: for which a lost server is not asked.
    """

    remote = True

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "kajitori",
        timeout_seconds: float = 0.2,
        back_off_seconds: float = 1.0,
    ) -> None:
        self._url = url
        self._prefix = f"{{{prefix}}}:"
        self._open_key = f"{self._prefix}open"
        # Of all counters, by when they are of no use: whoever else uses this server may have millions of keys.
        self._names_key = f"{self._prefix}names"
        self._timeout_seconds = timeout_seconds
        self._back_off_seconds = back_off_seconds
        self._client: Redis | None = None
        self._node = ""
        self._waiting: list[_Call] = []
        self._sender: asyncio.Task[None] | None = None
        self._lost_until = 0.0
        self._lost = ""

    async def reserve(
        self,
        request_id: str,
        note: str,
        holds: Sequence[Hold],
        groups: Sequence[int],
        open_candidates: Sequence[int],
        *,
        now: float,
        expires: float,
    ) -> Outcome:
        keys = [self._open_key, self._names_key, self._own_key(request_id)]
        keys += [self._counter(hold.counter) for hold in holds]
        values: list[Any] = [self._prefix, now, LATE_SECONDS, request_id, note, expires]
        values += [len(groups), *groups, len(open_candidates), *open_candidates]
        for hold in holds:
            values += [
                hold.slot,
                hold.oldest,
                hold.newest,
                hold.keep,
                hold.amount,
                hold.capacity,
                hold.kind,
                hold.group,
            ]
            values.append(hold.forget)
        answer: list[bytes] = await self._run(_RESERVE, keys, values)
        with _understanding():
            numbers = answer[2:]
            standings = tuple(
                Standing(
                    int(numbers[place]),
                    int(numbers[place + 1]),
                    int(numbers[place + 2]),
                    numbers[place + 3] == b"1",
                    int(numbers[place + 4]) if numbers[place + 4] else None,
                )
                for place in range(0, len(numbers), 5)
            )
            candidates = tuple(sorted(int(each) for each in answer[1].split(b",") if each))
            return Outcome(answer[0] == b"1", standings, candidates)

    async def settle(self, request_id: str, amounts: Sequence[int], *, now: float) -> bool:
        keys = [self._open_key, self._names_key, self._own_key(request_id)]
        return bool(await self._run(_SETTLE, keys, [self._prefix, now, request_id, *amounts]))

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def find(self, request_id: str) -> Reservation | None:
        fields: dict[bytes, bytes] = await self._ask(None, ("HGETALL", self._own_key(request_id)))
        if not fields:
            return None
        found: list[tuple[int, Taken]] = []
        score: float | None = await self._ask(None, ("ZSCORE", self._open_key, request_id))
        with _understanding():
            for number, value in fields.items():
                if number.isdigit():
                    slot, amount, forget, counter = value.decode().split(":", 3)
                    name = counter.removeprefix(f"{self._prefix}c:")
                    found.append((int(number), Taken(name, int(slot), int(amount), int(forget))))
            taken = [each for _, each in sorted(found)]
            return Reservation(fields.get(b"note", b"").decode(), taken, float(score or 0.0))

    async def book(self, taken: Sequence[Taken], *, now: float, receipt: Receipt | None = None) -> None:
        source, number, position = receipt or ("", "", b"")
        values: list[Any] = [self._prefix, now, MOST_SLOTS, number, position]
        for each in taken:
            values += [each.slot, each.amount, each.forget, each.keep]
        keys = [self._open_key, self._names_key, self._source_key(source)]
        await self._run(_BOOK, [*keys, *(self._counter(each.counter) for each in taken)], values)

    async def position(self, source: str) -> bytes:
        found: bytes | None = await self._ask(None, ("HGET", self._source_key(source), "position"))
        return found or b""

    async def amounts(self, counters: Sequence[str]) -> list[dict[int, int]]:
        async def one(name: str) -> dict[int, int]:
            slots: dict[bytes, bytes] = await self._ask(None, ("HGETALL", self._counter(name)))
            with _understanding():
                return {int(slot): int(amount) for slot, amount in slots.items() if not slot.startswith(b"o")}

        return list(await asyncio.gather(*(one(name) for name in counters)))

    async def names(self) -> list[str]:
        start, found, cursor = f"{self._prefix}c:", set[str](), 0
        while True:
            answer: tuple[int, list[tuple[bytes, float]]] = await self._ask(
                None, ("ZSCAN", self._names_key, cursor, "COUNT", 1000)
            )
            with _understanding():
                cursor = int(answer[0])
                found.update(name.decode().removeprefix(start) for name, _ in answer[1])
            if cursor == 0:
                return sorted(found)

    async def sweep(self, now: float) -> None:
        keys = [self._open_key, self._names_key]
        while await self._run(_SWEEP, keys, [self._prefix, now, LATE_SECONDS]) == 100:
            pass

    async def close(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        self._fail(self._waiting, "the store is closed")
        await self._disconnect()

    def _source_key(self, source: str) -> str:
        return f"{self._prefix}s:{source}"

    def _own_key(self, request_id: str) -> str:
        return f"{self._prefix}r:{request_id}"

    def _counter(self, name: str) -> str:
        return f"{self._prefix}c:{name}"

    async def _run(self, script: _Script, keys: list[str], values: list[Any]) -> Any:
        return await self._ask(script, (len(keys), *keys, *values))

    async def _ask(self, script: _Script | None, values: tuple[Any, ...]) -> Any:
        loop = asyncio.get_running_loop()
        if self._lost and loop.time() < self._lost_until:
            raise StoreLost(self._lost)
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((script, values, future))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        """Sends what waits, all at once, until nothing does."""
        while self._waiting:
            calls, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            try:
                async with asyncio.timeout(2 * self._timeout_seconds):
                    results = await self._exchange(calls)
            except Exception as error:
                self._lose(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
                waiting, self._waiting = self._waiting, []
                self._fail(calls + waiting, self._lost)
                await self._disconnect()
                return
            except asyncio.CancelledError:
                self._fail(calls, "the store is closed")
                raise
            if self._lost:
                _log.warning("the store of limits answers again")
                self._lost = ""
            for (_, _, future), result in zip(calls, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(StoreLost(f"the store of limits refuses: {result}"))
                else:
                    future.set_result(result)

    async def _exchange(self, calls: list[_Call]) -> list[Any]:
        from redis.exceptions import MovedError, NoScriptError

        client = self._connected()
        results = await _pipeline(client, calls)
        moved = next((result for result in results if isinstance(result, MovedError)), None)
        if moved is not None:
            # All names lie in one slot, and so on one node of a cluster: that one is asked from now on.
            _log.info("the slot of limits is at %s:%d", moved.host, moved.port)
            await self._disconnect()
            self._node = _at_node(self._url, moved.host, int(moved.port))
            client = self._connected()
            results = await _pipeline(client, calls)
        unknown = [place for place, result in enumerate(results) if isinstance(result, NoScriptError)]
        if unknown:
            for script in {script for script, _, _ in calls if script is not None}:
                await client.script_load(script.text)
            again = await _pipeline(client, [calls[place] for place in unknown])
            for place, result in zip(unknown, again, strict=True):
                results[place] = result
        return results

    def _connected(self) -> Redis:
        if self._client is None:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            self._client = Redis.from_url(
                self._node or self._url,
                socket_timeout=self._timeout_seconds,
                socket_connect_timeout=self._timeout_seconds,
                retry=Retry(NoBackoff(), 0),
                max_connections=2,
            )
        return self._client

    def _lose(self, why: str) -> None:
        if not self._lost:
            _log.error("the store of limits is lost: %s", why)
        self._lost = f"the store of limits is lost: {why}"
        self._lost_until = asyncio.get_running_loop().time() + self._back_off_seconds
        self._node = ""  # another node may have the slot when it is asked again

    @staticmethod
    def _fail(calls: list[_Call], why: str) -> None:
        for _, _, future in calls:
            if not future.done():
                future.set_exception(StoreLost(why))

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await client.aclose()
            except Exception as error:
                _log.debug("closing the connection to the store: %s", error)


@contextlib.contextmanager
def _understanding() -> Generator[None]:
    """What somebody else has written under our names is as good as lost."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreLost(f"the store of limits answers what cannot be read: {error}") from None


def _at_node(url: str, host: str, port: int) -> str:
    """The URL with another server in it."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}{at}{f'[{host}]' if ':' in host else host}:{port}").geturl()


async def _pipeline(client: Redis, calls: list[_Call]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for script, values, _ in calls:
        if script is None:
            pipeline.execute_command(*values)
        else:
            pipeline.execute_command("EVALSHA", script.digest, *values)
    return await pipeline.execute(raise_on_error=False)
