"""Keys as `kaji keys` makes and renews them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from kajitori.api.kajitori_gateway.api_key import APIKey
from kajitori.cli import keys, main

PATH = "/apis/gateway.kajitori.dev/v1alpha1/namespaces/default/apikeys"


class Server(BaseHTTPRequestHandler):
    """Keeps what it is sent, as an API server would."""

    objects: dict[str, dict[str, Any]]

    def log_message(self, format: str, *args: Any) -> None: ...

    def _answer(self, value: Any, code: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["content-length"])))

    def do_POST(self) -> None:
        assert self.path.split("?")[0] == PATH
        item = self._body()
        item["metadata"] |= {"namespace": "default", "resourceVersion": "1"}
        self.objects[item["metadata"]["name"]] = item
        self._answer(item)

    def do_GET(self) -> None:
        if self.path == PATH:
            return self._answer({"items": list(self.objects.values())})
        item = self.objects.get(self.path.rpartition("/")[2])
        return self._answer(
            item or {"kind": "Status", "reason": "NotFound", "code": 404}, 200 if item else 404
        )

    def do_PATCH(self) -> None:
        item = self.objects[self.path.split("?")[0].rpartition("/")[2]]
        patch = self._body()
        assert patch.get("metadata", {}).get("resourceVersion", "1") == "1"
        item["spec"] |= patch["spec"]
        self._answer(item)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, Any]]]:
    Server.objects = {}
    with HTTPServer(("127.0.0.1", 0), Server) as listening:
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        cluster = {"server": f"http://127.0.0.1:{listening.server_port}"}
        config = {
            "current-context": "c", "users": [{"name": "u", "user": {}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        (tmp_path / "config").write_text(json.dumps(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield Server.objects
        listening.shutdown()
        thread.join()


def kaji(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["keys", *words]) == 0
    return out.getvalue()


def test_a_key_is_printed_once_and_only_its_hash_is_sent(server: dict[str, dict[str, Any]]) -> None:
    key = kaji(
        "create",
        "alice",
        "--models",
        "gpt-*, o1",
        "--tenant",
        "other/team",
        "--budget",
        "b",
        "--expires-in",
        "2d",
    ).strip()
    item = server["alice"]
    assert len(key) <= 55
    assert key.startswith(f"kaji_{item['spec']['id']}_")
    assert len(key.split("_", 2)[2]) >= 32
    assert item["spec"]["hashes"] == [{"sha256": hashlib.sha256(key.encode()).hexdigest()}]
    assert item["spec"]["models"] == ["gpt-*", "o1"]
    assert item["spec"]["tenantRef"] == {"name": "team", "namespace": "other"}
    assert key not in json.dumps(item)
    assert key not in kaji("list")

    msgspec.convert(item, APIKey)


def test_a_rotated_key_has_two_secrets_until_the_old_one_ends(server: dict[str, dict[str, Any]]) -> None:
    old = kaji("create", "alice").strip()
    new = kaji("rotate", "alice", "--overlap", "1h").strip()
    fresh, before = server["alice"]["spec"]["hashes"]
    assert old != new
    assert fresh == {"sha256": keys.digest(new)}
    assert before["sha256"] == keys.digest(old)
    assert before["notAfter"]
    assert "rotating" in kaji("list")
    last = kaji("rotate", "alice", "--overlap", "0s").strip()
    assert server["alice"]["spec"]["hashes"] == [{"sha256": keys.digest(last)}]
    assert kaji("revoke", "alice") == "key alice revoked\n"
    assert server["alice"]["spec"]["disabled"] is True
    assert "revoked" in kaji("list")


def test_an_old_secret_that_ends_earlier_keeps_its_end() -> None:
    hashes = [
        {"sha256": "b", "notAfter": "2026-01-01T00:10:00Z"},
        {"sha256": "c", "notAfter": "2025-12-31T00:00:00Z"},
    ]
    assert keys.rotated(hashes, "a", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z") == [
        {"sha256": "a"}, {"sha256": "b", "notAfter": "2026-01-01T00:10:00Z"}
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["soon", "-1h", "1", "d"])
def test_a_time_that_is_none_is_refused_and_nothing_made(
    server: dict[str, dict[str, Any]], text: str
) -> None:
    assert main(["keys", "create", "x", f"--expires-in={text}"]) == 2
    assert server == {}


@pytest.mark.parametrize(
    "option", ["--models=", "--models=,,", "--routes=", "--tenant=", "--tenant=/x", "--budget="]
)
def test_an_option_that_names_nothing_makes_no_key_that_may_use_everything(
    server: dict[str, dict[str, Any]], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "create", "wide", option]) == 2
    assert server == {} and option.partition("=")[0] in capsys.readouterr().err


def test_a_key_that_is_over_at_once_is_refused(server: dict[str, dict[str, Any]]) -> None:
    assert main(["keys", "create", "late", "--expires-in", "0s"]) == 2
    assert server == {}


def test_what_a_new_key_names_and_is_not_there_is_told(
    server: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "create", "early", "--tenant", "team", "--budget", "monthly"]) == 0
    told = capsys.readouterr().err
    assert "Budget default/monthly does not exist" in told and "Tenant default/team does not exist" in told


def test_where_there_is_no_key_that_is_said(
    server: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "list"]) == 0
    assert "no keys in namespace default" in capsys.readouterr().err
    assert main(["keys", "rotate", "nobody"]) == 1
    assert "kaji keys list" in capsys.readouterr().err
