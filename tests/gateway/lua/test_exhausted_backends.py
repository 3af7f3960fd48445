"""The script that leaves out backends without quota, in a LuaJIT of its own: a fault of it lets nothing pass."""

from __future__ import annotations

from lupa import luajit21

from kajitori.gateway.lua.scripts import EXHAUSTED_SCRIPT

_STAND_IN = """
function stand_in(exhausted, groups)
  local told, headers, handle = { removed = {} }, {}, {}
  local sent = { ['x-kajitori-exhausted'] = exhausted, [':path'] = '/v1/chat/completions' }
  function headers:get(name) return sent[name] end
  function headers:remove(name) sent[name] = nil end
  function headers:replace(name, value) sent[name] = value end
  local metadata = { get = function() return nil end, set = function() told.ordered = true end }
  local info = { dynamicMetadata = function() return metadata end }
  function handle:headers() return headers end
  function handle:streamInfo() return info end
  function handle:filterContext() return { get = function() return groups end } end
  function handle:clearRouteCache() end
  function handle:respond(answer) told.status = answer[':status'] end
  function handle:logErr(text) told.problem = text end
  envoy_on_request(handle)
  told.left = sent['x-kajitori-exhausted']
  return told
end
two = { { { cluster = 'a', name = 'default/a', weight = 1 } }, { { cluster = 'b', name = 'default/b', weight = 1 } } }
broken = { { { cluster = 'a', name = 'default/a' } } }
"""


def _run(exhausted: str | None, groups: str) -> dict[str, str]:
    lua = luajit21.LuaRuntime(unpack_returned_tuples=True)
    lua.execute(EXHAUSTED_SCRIPT)
    lua.execute(_STAND_IN)
    found = lua.globals().stand_in(exhausted, lua.globals()[groups])
    return {name: found[name] for name in ("status", "ordered", "problem", "left") if found[name] is not None}


def test_who_has_no_quota_left_is_left_out_and_the_header_reaches_nobody() -> None:
    assert _run("default/a=60", "two") == {"ordered": True}
    assert _run("default/a=60,default/b=30", "two") == {"status": "429"}
    assert _run(None, "two") == {}


def test_a_fault_of_the_script_lets_no_request_pass() -> None:
    found = _run("default/b=60", "broken")
    assert found["status"] == "500"
    assert "cannot be told" in found["problem"]
