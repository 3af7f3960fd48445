"""Objects that are a little wrong are refused by both servers alike: same code, same causes, same words.

The quick suite tries a fixed selection; `KAJITORI_MUTATIONS=all` tries all of them, and also tells which of the known
differences are none any more. `KAJITORI_MUTATIONS=record` writes the known differences anew.
"""

from __future__ import annotations

import asyncio
import os

import aiohttp
from tests.contract.comparison import collection_of
from tests.contract.mutations import KNOWN, Mutation, is_quick, known, mutations, told
from tests.servers import Server
from tests.wire import Answer

WHICH = os.environ.get("KAJITORI_MUTATIONS", "quick")
AT_ONCE = 12


def _answer(answer: Answer | BaseException) -> Answer:
    if isinstance(answer, BaseException):
        raise answer
    return answer


async def test_what_a_real_server_refuses_ours_refuses_in_the_same_words(
    servers: tuple[Server, Server], shared_namespace: str
) -> None:
    differing: dict[str, str] = {}
    turns = asyncio.Semaphore(AT_ONCE)

    async def hold(mutation: Mutation) -> None:
        path = collection_of(mutation.obj, shared_namespace)
        async with turns:
            answers = await asyncio.gather(
                *(server.http.create(path, mutation.obj, dryRun="All") for server in servers),
                return_exceptions=True,
            )
        if isinstance(answers[1], aiohttp.ServerDisconnectedError):
            return  # a Job of a success policy without completions: the real one falls over it
        ours, theirs = (told(_answer(answer), shared_namespace) for answer in answers)
        if ours != theirs:
            differing[mutation.key] = f"{mutation.key}:\n  ours {ours}\n  real {theirs}"

    chosen = [one for one in mutations(shared_namespace) if WHICH != "quick" or is_quick(one)]
    assert len(chosen) > 300
    await asyncio.gather(*(hold(mutation) for mutation in chosen))
    if WHICH == "record":
        KNOWN.write_text("".join(f"{key}\n" for key in sorted(differing)))
    found = [text for key, text in sorted(differing.items()) if key not in known()]
    assert not found, "\n".join(found)
    if WHICH == "all":
        assert not known() - differing.keys(), "these are alike by now"
