"""The tokens that policies need: fetched, held in memory, renewed before they end. The effects of `exchange`.

Every replica of the gateway fetches its own. It serves its own Envoys and must not depend on a leader for that, and
so no token is ever written to the cluster. A token lives about an hour and is asked for once in that time, after a
failure with growing delays, a policy's at most once a second, and of all policies a few at once: an endpoint sees
one request an hour, policy and replica.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from kajitori.base.clock import rfc3339
from kajitori.base.masking import MASK, mask_secrets
from kajitori.gateway.credentials.exchange import (
    Answer,
    Exchange,
    ExchangeFailed,
    ReadFile,
    Request,
    Step,
    Surroundings,
    Token,
    TokenState,
)
from kajitori.gateway.credentials.rotation import seconds_to_retry, seconds_to_rotation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kajitori.control.runtime import Runtime
    from kajitori.gateway.credentials.exchanges import PolicyKey

_log = logging.getLogger(__name__)

# A plan waits so long for the first answers that it needs: Envoy must not lose a backend for a restart of ours.
_PATIENCE_SECONDS = 2.0
_TIMEOUT_SECONDS, _SHORT_TIMEOUT_SECONDS = 10.0, 2.0
_AT_ONCE = 8
_LEAST_GAP_SECONDS = 1.0
# The clock may jump while a laptop sleeps; it is looked at this often.
_LONGEST_NAP_SECONDS = 60.0
_LARGEST_ANSWER_BYTES = 256 * 1024
_SHORTEST_SECRET = 4


class _Kept:
    """The token of one policy."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.state = TokenState()
        self.tried = asyncio.Event()
        self.asked_at = float("-inf")
        self.task: asyncio.Task[None] | None = None


class TokenSource:
    """Keeps the tokens of those policies that are wanted. on_change: called when a state changes."""

    def __init__(
        self,
        runtime: Runtime,
        on_change: Callable[[], None],
        surroundings: Surroundings | None = None,
    ) -> None:
        self._clock, self._random = runtime.clock, runtime.random
        self._on_change = on_change
        self._surroundings = surroundings or Surroundings()
        self._kept: dict[PolicyKey, _Kept] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        runtime.service("provider tokens", self._end_with_the_process, everywhere=True)

    async def want(self, exchanges: Mapping[PolicyKey, Exchange]) -> None:
        """Keep exactly these; returns when new ones have been tried once, or after two seconds."""
        for key in self._kept.keys() - exchanges.keys():
            self._stop(self._kept.pop(key))
        fresh: list[_Kept] = []
        for key, exchange in exchanges.items():
            kept = self._kept.get(key)
            if kept is not None and kept.exchange == exchange:
                continue
            if kept is None:
                kept = self._kept[key] = _Kept(exchange)
            elif kept.exchange.identity != exchange.identity:
                kept.state = TokenState()
            # With another secret of the same identity the present token goes on.
            self._stop(kept)
            kept.exchange = exchange
            kept.tried.clear()
            kept.task = asyncio.create_task(self._keep(key, kept), name=f"token of {'/'.join(key)}")
            fresh.append(kept)
        if fresh:
            waiting = [asyncio.ensure_future(kept.tried.wait()) for kept in fresh]
            _, late = await asyncio.wait(waiting, timeout=_PATIENCE_SECONDS)
            for task in late:
                task.cancel()

    def states(self) -> dict[PolicyKey, TokenState]:
        """How each of them stands."""
        return {key: kept.state for key, kept in self._kept.items()}

    async def _keep(self, key: PolicyKey, kept: _Kept) -> None:
        failures = 0
        while True:
            await asyncio.sleep(kept.asked_at + _LEAST_GAP_SECONDS - asyncio.get_running_loop().time())
            try:
                async with self._slots:
                    kept.asked_at = asyncio.get_running_loop().time()
                    token = await self.fetch(kept.exchange)
            except Exception as error:
                failures += 1
                expected = isinstance(error, ExchangeFailed)
                asked_for = error.retry_after_seconds if expected else None
                wait = seconds_to_retry(failures, self._random.random(), asked_for)
                # A defect of ours must not end the renewal; its text may have anything in it.
                defect = f"this exchange meets a defect of the gateway: {type(error).__name__}"
                self._failed(key, kept, str(error) if expected else defect)
            else:
                failures = 0
                wait = seconds_to_rotation(token.expires_at, self._clock.now(), self._random.random())
                _log.info("the token of BackendSecurityPolicy %s is renewed in %.0f s", "/".join(key), wait)
                self._set(kept, TokenState(token))
            await self._wait(key, kept, self._clock.now() + wait)

    def _failed(self, key: PolicyKey, kept: _Kept, problem: str) -> None:
        for secret in kept.exchange.secrets:
            if len(secret) >= _SHORTEST_SECRET:
                problem = problem.replace(secret, MASK)
        problem = mask_secrets(problem)
        if problem != kept.state.problem:
            _log.warning("no new token for BackendSecurityPolicy %s: %s", "/".join(key), problem)
        self._set(kept, TokenState(self._valid(kept.state.token), problem))

    def _valid(self, token: Token | None) -> Token | None:
        if token is None or (token.expires_at is not None and token.expires_at <= self._clock.now()):
            return None
        return token

    async def _wait(self, key: PolicyKey, kept: _Kept, until: float) -> None:
        """Sleeps, and takes away a token that ends meanwhile."""
        while (left := until - self._clock.now()) > 0:
            token = kept.state.token
            if token is not None and token.expires_at is not None:
                left = min(left, max(token.expires_at - self._clock.now(), 0.01))
            await asyncio.sleep(min(left, _LONGEST_NAP_SECONDS))
            if token is not None and self._valid(token) is None:
                ended = f"the token ended at {rfc3339(token.expires_at or 0)}"
                self._set(kept, TokenState(None, kept.state.problem or ended))

    def _set(self, kept: _Kept, state: TokenState) -> None:
        changed = state != kept.state
        kept.state = state
        kept.tried.set()
        if changed:
            self._on_change()

    async def fetch(self, exchange: Exchange) -> Token:
        """Goes through the steps of an exchange. Raises ExchangeFailed."""
        steps = exchange.steps(self._surroundings, self._clock.now())
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._take(step))
        except StopIteration as end:
            token: Token = end.value
        if self._valid(token) is None:
            raise ExchangeFailed(
                "the token that came has ended already", hint="look at the clocks of both sides"
            )
        return token

    async def _take(self, step: Step) -> Answer:
        if isinstance(step, ReadFile):
            return await asyncio.to_thread(_read, step.path)
        try:
            return await self._ask(step)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if step.optional:
                return Answer(0)
            reason = str(error) or type(error).__name__
            raise ExchangeFailed(
                f"{step.endpoint} cannot be asked ({urlsplit(step.url).netloc}): {reason}"
            ) from None

    async def _ask(self, request: Request) -> Answer:
        seconds = _SHORT_TIMEOUT_SECONDS if request.optional else _TIMEOUT_SECONDS
        async with self._session(request.url).request(
            request.method,
            request.url,
            headers={"accept": "application/json, text/xml", **request.headers},
            data=request.form,
            json=request.json,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=seconds),
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                body += chunk
                if len(body) > _LARGEST_ANSWER_BYTES:
                    raise ExchangeFailed(f"{request.endpoint} answered more than can be a token")
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, bytes(body), headers)

    def _session(self, url: str) -> aiohttp.ClientSession:
        # HTTPS_PROXY is for what is outside; metadata servers speak plain HTTP and are right here.
        outside = url.startswith("https://")
        found = self._sessions.get(outside)
        if found is None:
            found = aiohttp.ClientSession(trust_env=outside, cookie_jar=aiohttp.DummyCookieJar())
            self._sessions[outside] = found
        return found

    def _stop(self, kept: _Kept) -> None:
        if kept.task is not None:
            kept.task.cancel()
            kept.task = None

    async def close(self) -> None:
        """Ends all fetching."""
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None]
        self._kept.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    async def _end_with_the_process(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()


def _read(path: str) -> Answer:
    try:
        return Answer(200, Path(path).read_bytes()[:_LARGEST_ANSWER_BYTES])
    except OSError:
        return Answer(404)
