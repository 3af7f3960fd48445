"""The scripts in a LuaJIT of their own, with a stand-in for what Envoy gives them. Text is bytes, as latin-1."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lupa import luajit21

from kajitori.gateway.lua.scripts import REQUEST_SCRIPT
from kajitori.gateway.operations import OPERATIONS

_STAND_IN = """
local stand_in = {}

local function stand_in_handle(seen)
  local handle = {}
  local headers = { get = function(_, name) return seen.headers[name] end }
  function headers:replace(name, value) seen.headers[name] = value end
  function headers:remove(name) seen.headers[name] = nil end
  local metadata = { get = function(_, name) return seen.metadata end }
  function metadata:set(_, key, value) seen.metadata[key] = value end
  local body = { length = function() return #seen.body end }
  function body:getBytes(from, size) return seen.body:sub(from + 1, from + size) end
  function body:setBytes(text) seen.body = text end
  function handle:headers() return headers end
  function handle:body() return body end
  function handle:clearRouteCache() end
  function handle:metadata() return { get = function() return nil end } end
  function handle:filterContext() return { get = function(_, name) return seen.context[name] end } end
  function handle:streamInfo() return { dynamicMetadata = function() return metadata end } end
  function handle:trailers() return seen.trailers end
  function handle:respond(told, text) seen.status, seen.answer = told[':status'], text end
  function handle:bodyChunks()
    local at = 0
    return function()
      at = at + 1
      local number = at
      local text = seen.chunks[number]
      if not text then return nil end
      seen.out[number] = text
      local chunk = { length = function() return #seen.out[number] end }
      function chunk:getBytes(from, size) return seen.out[number]:sub(from + 1, from + size) end
      function chunk:setBytes(changed) seen.out[number] = changed end
      return chunk
    end
  end
  return handle
end

function stand_in.request(path, body, headers)
  local seen = { headers = { [':path'] = path, [':method'] = 'POST' }, metadata = {}, body = body, context = {} }
  for name, value in pairs(headers) do seen.headers[name] = value end
  envoy_on_request(stand_in_handle(seen))
  return seen
end

function stand_in.response(facts, headers, chunks)
  local request = { dialect = facts.dialect, strip = facts.strip, leg = facts.leg }
  local metadata = { who = facts.who, request = request }
  local seen = { headers = { [':status'] = '200' }, metadata = metadata, chunks = chunks, out = {}, body = '',
    trailers = facts.trailers }
  for name, value in pairs(headers) do seen.headers[name] = value end
  envoy_on_response(stand_in_handle(seen))
  return table.concat(seen.out) .. seen.body, seen.metadata.usage
end

function stand_in.members(text)
  local found = {}
  local close, problem = members(text, function(key, start, from, to)
    found[#found + 1] = { key, start, from, to }
  end)
  return close, problem, found
end

stand_in.unescape, stand_in.quote, stand_in.form_field = unescape, quote, form_field
stand_in.shard_of = shard_of
"""


@functools.cache
def _runtime() -> Any:
    return luajit21.LuaRuntime(encoding="latin-1")


@functools.cache
def request_machine() -> Any:
    """The functions of the request script."""
    return _runtime().execute(f"{REQUEST_SCRIPT}\n{_STAND_IN}\nreturn stand_in")


def text_of(data: bytes) -> str:
    return data.decode("latin-1")


@dataclass
class Asked:
    """What became of a request. facts: as kept; answer: if it was refused."""

    facts: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: str | None
    answer: str | None


def ask(path: str, body: bytes, **headers: str) -> Asked:
    """Runs a request through the script."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    seen = request_machine().request(path, text_of(body), _runtime().table_from(sent))
    facts = dict(seen.metadata.request.items()) if seen.metadata.request else {}
    if seen.metadata.who:
        names = ("key", "tenant", "input_tokens", "output_tokens", "dialect", "operation", "stream")
        told = dict(zip(names, seen.metadata.who.split("|"), strict=True))
        told |= {"path": seen.metadata.path, "model": seen.metadata.model}
        facts |= {name: value for name, value in told.items() if value}
    return Asked(facts, dict(seen.headers.items()), seen.body.encode("latin-1"), seen.status, seen.answer)


def answer(
    chunks: Sequence[bytes],
    kind: str = "application/json",
    *,
    dialect: str = "openai",
    event: str | None = None,
    operation: str = "",
    **facts: str | bool,
) -> tuple[bytes, str | None]:
    """Runs an answer through the script: what the client gets, and the usage that was read. The operation goes by its name,
    or is the first of a dialect whose events have such a mark.
    """
    found = next(
        item
        for item in OPERATIONS
        if item.usage
        and (item.name == operation if operation else item.dialect == dialect and event in (None, item.event))
    )
    told = {"who": f"||||{found.dialect}|{found.name}|", "dialect": found.dialect, **facts}
    table = _runtime().table_from
    sent = table([text_of(item) for item in chunks])
    out, usage = request_machine().response(table(told), table({"content-type": kind}), sent)
    return out.encode("latin-1"), usage
