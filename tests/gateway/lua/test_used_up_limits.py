"""The script that keeps requests back, in a LuaJIT of its own: what it does where Envoy or the system fails it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lupa import luajit21

from kajitori.gateway.lua.scripts import used_up_script

_STAND_IN = """
function stand_in(address, now)
  local told, headers, handle = {}, {}, {}
  local sent = { [':path'] = '/v1/chat/completions', [':method'] = 'POST', ['x-ai-eg-model'] = 'm' }
  function headers:get(name) return sent[name] end
  local metadata = { get = function() return nil end, set = function() end }
  local info = { downstreamDirectRemoteAddress = function() return address end, dynamicMetadata = function() return metadata end,
    routeName = function() return 'ai/default/chat/rule/0/match/0' end }
  function handle:headers() return headers end
  function handle:timestamp() return now end
  function handle:streamInfo() return info end
  function handle:respond(answer) told.status = answer[':status'] end
  function handle:logErr(text) told.problem = text end
  function handle:httpCall(_, question)
    told.asked = question['x-kajitori-facts']
    return { [':status'] = '200' }
  end
  envoy_on_request(handle)
  return told
end
"""
_CLOSED = (
    "L\t0\t0\tclient\t\tBudget default/all\n"
    "C\t0\t1.2.3.4\t99999999999.0\t99999999999.0\t2\t3600\trequests\tnothing is left, wait {} s\n"
    "R\tdefault/chat\t0\n"
)


@dataclass
class Script:
    """Asked by one client again and again. moment: in milliseconds."""

    path: Path
    lua: Any
    moment: int = 1_000_000

    def write(self, text: str) -> None:
        self.path.write_text(f"kajitori-used-up-1 {self.moment}\n{text}")

    def ask(self, address: str = "1.2.3.4:5") -> Any:
        self.moment += 200
        return self.lua.globals().stand_in(address, str(self.moment))


@pytest.fixture
def script(tmp_path: Path) -> Script:
    path = tmp_path / "used-up"
    lua = luajit21.LuaRuntime(encoding="latin-1")
    lua.execute(used_up_script(str(path), "accountant"))
    lua.execute(_STAND_IN)
    return Script(path, lua)


def test_who_is_concerned_is_refused_and_nobody_else(script: Script) -> None:
    assert script.ask().status is None
    script.write(_CLOSED)
    assert script.ask().status == "429"
    other = script.ask("1.2.3.5:5")
    assert (other.status, other.asked) == (None, None)
    script.path.unlink()
    assert script.ask().status is None


def test_what_is_used_up_stays_so_while_the_file_cannot_be_opened(script: Script) -> None:
    script.write(_CLOSED)
    assert script.ask().status == "429"
    script.lua.execute("io.open = function() return nil, 'too many open files', 24 end")
    assert script.ask().status == "429"


def test_where_the_file_could_never_be_opened_everybody_is_asked_about(script: Script) -> None:
    script.lua.execute("io.open = function() return nil, 'too many open files', 24 end")
    told = script.ask()
    assert told.asked is not None
    assert "too many open files" in told.problem


@pytest.mark.parametrize("text", [_CLOSED.replace(" {} ", " "), "R\tdefault/chat\t7\n", "X\n", "C\t0\t\n"])
def test_a_file_that_makes_no_sense_opens_no_limit(script: Script, text: str) -> None:
    script.write(text)
    told = script.ask()
    assert (told.status, told.asked is not None) == (None, True)
    assert told.problem


def test_an_address_of_ipv6_is_told_as_the_log_has_it(script: Script) -> None:
    script.write(_CLOSED.replace("L\t0\t0", "L\t0\t1"))
    assert "|::1|" in script.ask("[::1]:5").asked
