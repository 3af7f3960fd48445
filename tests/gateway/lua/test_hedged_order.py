"""Legs of a hedged request agree on an order without speaking to each other."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lupa import luajit21

_STAND_IN = """
local find, byte, cooled = string.find, string.byte, {}
local function cooled_until(target) return cooled[target] end
%s
return function(id, leg, weights, left_out)
  local headers = { get = function() return id end, replace = function() end }
  local tier = {}
  for at, weight in ipairs(weights) do
    local name = tostring(at)
    tier[at] = { name = name, target = name, cluster = name, weight = weight }
  end
  cooled = { [left_out .. '\\n'] = 9 }
  local list = sort_choices({ tier }, { hedge = read_hedge(headers, leg), model = 'm' }, 1, left_out ~= '0')
  return list[1].name
end
"""
_lua: Any = luajit21.LuaRuntime()
_ORDER = (files("kajitori.gateway.lua") / "order.lua").read_text(encoding="utf-8")
_first: Any = _lua.execute(_STAND_IN.replace("%s", _ORDER))


@given(
    st.uuids(),
    st.lists(st.integers(1, 100), min_size=3, max_size=5),
    st.integers(1, 5),
)
def test_a_leg_goes_to_another_backend_than_the_first_though_one_is_cooled_meanwhile(
    id: Any, weights: list[int], cooled: int
) -> None:
    def first_of(leg: int, left_out: int = 0) -> str:
        return _first(str(id), leg, _lua.table_from(weights), str(left_out))

    first = first_of(1)
    assert first_of(2) != first
    assert first_of(2, cooled) != first
