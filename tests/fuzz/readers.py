"""Whoever reads foreign bytes in Python, one function each: they take any bytes, and raise only where there is a defect.

`seeds` are good inputs, from which a fuzzer finds its way. What a reader may raise is caught here, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import types
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from lupa import luajit21

from kajitori.api.aigateway.v1beta1 import LLMRequestCost
from kajitori.app.standalone.substitution import substitute
from kajitori.app.standalone.trial import try_records
from kajitori.base.errors import UserError
from kajitori.cli.gateway import without_effect
from kajitori.cli.gateway_try import read_records
from kajitori.cli.manifests import read_manifests
from kajitori.gateway.accounting.admission_server import AdmissionServer
from kajitori.gateway.accounting.costs import CostExpression, Usage, check_costs
from kajitori.gateway.accounting.ledger import Ledger
from kajitori.gateway.accounting.log_format import (
    FIELD_SEPARATOR,
    LINE_START,
    REQUEST_FORMAT,
    REQUEST_VERSION,
)
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.policy import Policy
from kajitori.gateway.accounting.policy_delivery import FILE_NAME, PolicyFollower
from kajitori.gateway.accounting.records import RecordStore
from kajitori.gateway.accounting.reported import answered_model, read_usage
from kajitori.gateway.credentials.aws import AWSRoleExchange, read_credentials_file
from kajitori.gateway.credentials.aws_default import AWSDefaultChain
from kajitori.gateway.credentials.azure import AzureExchange
from kajitori.gateway.credentials.exchange import Answer, Concealed, Exchange, ExchangeFailed, Surroundings
from kajitori.gateway.credentials.gcp import GCPDefault, GCPFederation, read_credentials
from kajitori.gateway.credentials.oidc import OIDCLogin
from kajitori.gateway.credentials.rotation import seconds_to_retry
from kajitori.gateway.envoy.encode import encoder
from kajitori.gateway.limits.journal import Journal
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.redis_store import RedisStore
from kajitori.gateway.limits.request import Request, Verdict
from kajitori.gateway.limits.store import StoreLost
from kajitori.gateway.lua.scripts import COOLING_SCRIPT
from kajitori.gateway.plan import make_plan
from kajitori.gateway.policies.security.discovery import read_discovery
from kajitori.gateway.rescue.dialects import story_of
from kajitori.gateway.rescue.events import Splitter, data_of
from kajitori.gateway.rescue.relay import _Rescue
from tests.gateway.lua.machine import answer, ask
from tests.gateway.security.objects import for_route, local_jwt, plain_route, policy
from tests.gateway.workbench import ai_route, backend, gateway, observe

Reader = Callable[[bytes], None]
READERS: dict[str, Reader] = {}
SEEDS: dict[str, tuple[bytes, ...]] = {}


def reads(name: str, *seeds: bytes) -> Callable[[Reader], Reader]:
    def add(reader: Reader) -> Reader:
        READERS[name], SEEDS[name] = reader, seeds
        return reader

    return add


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@cache
def folder() -> Path:
    kept = tempfile.TemporaryDirectory(prefix="kaji-fuzz-")
    _KEPT.append(kept)
    return Path(kept.name)


_KEPT: list[Any] = []


@cache
def loop() -> asyncio.AbstractEventLoop:
    found = asyncio.new_event_loop()
    _KEPT.append(contextlib.closing(found))
    return found


# -- what Envoy tells the accountant


@cache
def _ledger() -> Ledger:
    store = RecordStore(folder() / "requests.db")
    _KEPT.append(store)
    return Ledger(store, GatewayMetrics())


_FIELDS = len(REQUEST_FORMAT) - 1


@reads(
    "log lines",
    b"\x1er2\x1fid\x1f1795719036.05\x1fai/default/r/rule/0/match/0\x1fPOST\x1f200\x1f\x1fai/default/a",
    b"id\xff1795719036.05\xffai/default/r/rule/0/match/0\xffPOST\xff200\xff\xffai/default/a\xff1.2.3.4:5\xff1\xff1.1.1.1"
    b"\xff12\xff12000\xff10\xff20\xff30\xff5\xff6\xff12,7,19,0,0,0;m\xff||1|2|openai|chat|true\xff\xff\xff\xff/v1/x\xff/y\xffm",
    b"\x1ea1\x1fid\x1f429\x1f\x1fai/default/a\x1f1.2.3.4:5\x1f12\x1f30\x1f",
)
def log_lines(data: bytes) -> None:
    fields = [text_of(part) for part in data.split(b"\xff", _FIELDS)]
    fields += [""] * (_FIELDS - len(fields))
    made = FIELD_SEPARATOR.join([LINE_START + REQUEST_VERSION, *fields[:_FIELDS]])
    _ledger().take([made, *text_of(data).split("\n")])


@reads("usage", b"12,7,19,0,0,0;gpt-4o", b"~16,3,0,3,0,0,0", b"~1")
def usage(data: bytes) -> None:
    text = text_of(data)
    with contextlib.suppress(ValueError):
        found, _ = read_usage(text, text[-3:])
        assert found is None or found.total_tokens == found.total_tokens
    answered_model(text)


class _Everybody:
    async def admit(self, request: Request) -> Verdict:
        return Verdict(allowed=len(request.id) % 2 == 0, status=429, message=request.model, limit=request.key)


class _Transport:
    """What a connection writes, until it closes."""

    def __init__(self) -> None:
        self.written, self.closed = bytearray(), False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


_FACTS = "ai/default/r/rule/0|id|key|tenant|12|50|anthropic|chat||1.2.3.4|m"


async def _admitted(pieces: list[bytes]) -> tuple[bytes, bool]:
    connection = AdmissionServer(_Everybody())._connection()
    transport: Any = _Transport()
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
            while connection._task is not None and not transport.closed:
                await asyncio.sleep(0)
    connection.connection_lost(None)
    return bytes(transport.written), transport.closed


@reads(
    "admission",
    f"POST /admit/v1/x HTTP/1.1\r\ncontent-length: 0\r\nx-kajitori-facts: {_FACTS}\r\n\r\n".encode() * 2,
    b"GET /healthz HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcPOST /admit/ HTTP/1.1\r\n\r\n",
)
def admission(data: bytes) -> None:
    whole = loop().run_until_complete(_admitted([data]))
    cut = len(data) // 2
    assert loop().run_until_complete(_admitted([data[:cut], data[cut:]])) == whole
    if len(data) < 300:
        assert loop().run_until_complete(_admitted([data[at : at + 1] for at in range(len(data))])) == whole


# -- what providers send


_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")


@reads(
    "events",
    b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n',
    b'event: content_block_delta\r\ndata: {"type":"content_block_delta",\r\ndata: "delta":{"text":"a"}}\r\n\r\n',
    b'data:{"type":"response.completed","sequence_number":3}\r\r: comment\n\ndata: {"choices":[{"text":"a"}]}\n\n',
)
def events(data: bytes) -> None:
    splitter = Splitter()
    passed, whole = splitter.feed(data)
    assert passed + splitter.pending == data
    assert b"".join(whole) == passed
    if len(data) < 200:
        bytewise, found = Splitter(), list[bytes]()
        for at in range(len(data)):
            found += bytewise.feed(data[at : at + 1])[1]
        assert [data_of(event) for event in found] == [data_of(event) for event in whole]
    for path in _PATHS:
        story = story_of(path, engine_fields=True)
        for event in whole:
            story.adapted(event)
            story.read(event)
        msgspec.json.encode(story.continuation({"messages": [], "prompt": "", "max_tokens": 5}))
        assert story.error(story.text[:50]).endswith(b"\n\n")


@reads(
    "bodies of the relay",
    b'{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":5,"stream":true}',
    b'{"prompt":"a","max_completion_tokens":1}',
)
def bodies_of_the_relay(data: bytes) -> None:
    for path in _PATHS:
        request: Any = types.SimpleNamespace(
            headers={"x-kajitori-rescue": "Continue"}, method="POST", path=path, path_qs=path
        )
        rescue = _Rescue(request, data)
        rescue.continues, rescue.leg = True, 1
        rescue.story.text = "a \ud7ff"
        made = rescue.next_body()
        assert made is None or isinstance(json.loads(made), dict)


def _cut(data: bytes) -> list[bytes]:
    size = data[0] % 7 + 1 if data else 1
    return [data[at : at + size] for at in range(0, len(data), size)]


@reads(
    "answers in Lua",
    b'{"model":"m","usage":{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19}}',
    b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\ndata: [DONE]\n\n',
    b'{"type":"response.done","response":{"usage":{"input_tokens":1,"output_tokens":2}}}',
)
def answers_in_lua(data: bytes) -> None:
    for kind in ("application/json", "text/event-stream"):
        whole = answer([data, b""], kind)
        cut = answer([*_cut(data), b""], kind)
        assert (whole[0], cut[0]) == (data, data)
        for told in (whole[1], cut[1]):
            assert told is None or read_usage(told, "") is not None
        if kind == "application/json":
            assert whole == cut


@reads(
    "requests in Lua",
    b'{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true,"max_tokens":5,"n":2}',
    b'{"stream_options":{"include_usage":false},"stream":true,"mod\\u0065l":"\\ud83d\\ude00"}',
)
def requests_in_lua(data: bytes) -> None:
    asked = ask("/v1/chat/completions", data)
    try:
        found = json.loads(data, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        found = None
    if asked.status is not None:
        assert asked.status == "400"
        json.loads((asked.answer or "").encode("latin-1").decode("utf-8", "replace"))
    elif isinstance(found, list) and all(isinstance(pair, tuple) for pair in found):
        models = [value for key, value in found if key == "model"]
        assert len(models) == 1
        told = asked.headers["x-ai-eg-model"].encode("latin-1")
        assert told.decode("utf-8", "replace") == models[0].encode(
            "utf-8", "replace"
        ).decode() or "\ufffd" in text_of(told)


@reads(
    "retry-after in Lua", b"30", b"1.5", b"Thu, 26 Nov 2026 19:02:51 GMT", b"Fri, 30 Feb 0000 99:99:99 GMT"
)
def retry_after_in_lua(data: bytes) -> None:
    seconds = _asked_seconds()(data.decode("latin-1"), "")
    also = _asked_seconds()("", data.decode("latin-1"))
    for found in (seconds, also):
        assert found is None or found >= 0


@cache
def _asked_seconds() -> Any:
    runtime = luajit21.LuaRuntime(encoding="latin-1")
    ends = """
    return function(after, milliseconds)
      local given = { ['retry-after'] = after ~= '' and after or nil, ['retry-after-ms'] = milliseconds ~= '' and milliseconds or nil }
      return asked_seconds({ get = function(_, name) return given[name] end }, 1795719036)
    end
    """
    return runtime.execute(COOLING_SCRIPT + ends)


# -- what token endpoints and stores answer

_SURROUNDINGS = Surroundings(environment={"HOME": "/h", "AWS_REGION": "r"})
_LOGIN = OIDCLogin(issuer="https://i", client_id="c", client_secret=Concealed("s"))
_EXCHANGES: tuple[Exchange, ...] = (
    AWSDefaultChain("r"),
    AWSRoleExchange(role_arn="arn:x", region="r", session_name="s", login=_LOGIN),
    GCPDefault(),
    GCPFederation(audience="a", login=_LOGIN, service_account="b@c"),
    AzureExchange(tenant_id="t", client_id="c", login=_LOGIN),
)


def _steps(exchange: Any, answers: list[Answer]) -> None:
    steps: Generator[Any, Answer, Any] = exchange.steps(_SURROUNDINGS, 1795719036.0)
    try:
        next(steps)
        for number in range(10):
            steps.send(answers[number % len(answers)])
    except ExchangeFailed as error:
        assert error.message
        asked_for = error.retry_after_seconds
        assert 0 <= seconds_to_retry(1, 0.0, asked_for) <= 3600
    except StopIteration as end:
        assert end.value.secret.text.isprintable()


@reads(
    "answers of token endpoints",
    b'200\n{"access_token":"t","expires_in":"3600","token_endpoint":"https://x/token","issuer":"https://i"}',
    b'400\n{"error":{"status":"NO","message":"why"},"error_description":"x"}',
    b"200\n<Code>a</Code> <Message>b</Message>",
    b"200\n[default]\naws_access_key_id = a\naws_secret_access_key = b\n",
    b'200\n{"AccessKeyId":"a","SecretAccessKey":"b","Token":"c","Expiration":"2026-11-26T19:00:00Z"}',
    b'200\n{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r"}',
)
def answers_of_token_endpoints(data: bytes) -> None:
    head, _, body = data.partition(b"\n")
    status = int(head) if head.isdigit() and len(head) < 4 else 200
    answers = [Answer(status, body, {"retry-after": text_of(body[-9:])}), Answer(200, body), Answer(404)]
    for exchange in _EXCHANGES:
        _steps(exchange, answers)
        _steps(exchange, answers[2:] + answers[:2])
        _steps(exchange, [Answer(200, body)])


@reads(
    "credentials files",
    b"[default]\naws_access_key_id = a\naws_secret_access_key = b\n[x]\n",
    b'{"type":"service_account"}',
)
def credentials_files(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_credentials_file(text_of(data), "default")
    with contextlib.suppress(ValueError):
        read_credentials(data)


@reads(
    "OpenID providers",
    b'{"issuer":"https://i","authorization_endpoint":"https://i/a","token_endpoint":"https://i/t","jwks_uri":"https://i/k"}',
    b'{"issuer":"https://i","authorization_endpoint":"http://[","token_endpoint":"https://i/t"}',
)
def openid_providers(data: bytes) -> None:
    found = read_discovery("https://i", data)
    assert found.problem or found.token_endpoint


@reads(
    "answers of Redis",
    b'["1","",["5","0","5","1",""]]',
    b'{"note":"x","0":"1:2:3:c"}',
    b'[0,["{kajitori}:c:a"]]',
    b"null",
    b"7",
)
def answers_of_redis(data: bytes) -> None:
    try:
        said: Any = json.loads(data)
    except (ValueError, RecursionError):
        said = data

    def raw(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-8", "replace")
        if isinstance(value, list):
            return [raw(item) for item in value]
        return {raw(key): raw(item) for key, item in value.items()} if isinstance(value, dict) else value

    async def ask_all() -> None:
        store = RedisStore("redis://nowhere")

        async def told(*_: Any) -> Any:
            await asyncio.sleep(0)
            return raw(said)

        store._ask = told  # type: ignore[method-assign]
        for question in (
            lambda: store.reserve("r", "n", [], [], [], now=1.0, expires=2.0),
            lambda: store.find("r"),
            lambda: store.amounts(["a"]),
            lambda: asyncio.wait_for(store.names(), 0.01),
        ):
            with contextlib.suppress(StoreLost, TimeoutError):
                await question()

    loop().run_until_complete(ask_all())


# -- what is on disk


@cache
def _journal_seeds() -> tuple[bytes, ...]:
    path = folder() / "seed.journal"
    journal = Journal(path)
    list(journal.replay())
    for record in (["r", "id", "n", [["c", 1, 2, 3]], 4.0], ["s", "id", [1]], {"x": 1}, [1], "x", None):
        journal.append(record)
    journal.close()
    return (path.read_bytes(),)


@reads("journals", *_journal_seeds())
def journals(data: bytes) -> None:
    path = folder() / "limits.journal"
    path.write_bytes(data)
    before: list[Any] = []
    journal = Journal(path)
    before.extend(journal.replay())
    journal.append(["kajitori"])
    journal.close()
    journal = Journal(path)
    assert [*journal.replay()] == [*before, ["kajitori"]] or before != before
    journal.close()
    path.write_bytes(data)
    store = MemoryStore(path)
    loop().run_until_complete(store.sweep(10.0))
    loop().run_until_complete(store.close())
    path.with_name(path.name + ".unreadable").unlink(missing_ok=True)


@reads("policies", msgspec.msgpack.encode(Policy()))
def policies(data: bytes) -> None:
    (folder() / FILE_NAME).write_bytes(data)
    PolicyFollower(lambda: None, folder(), lambda policy: None).restore()  # type: ignore[arg-type, return-value]


# -- what people write


@reads(
    "CEL",
    b"input_tokens / uint(3) + output_tokens",
    b"backend == 'a.default' ? 1u : 0u",
    b"cached_input_tokens * 0.1",
    b"[1].map(x, x)[0]",
)
def cel(data: bytes) -> None:
    problems: list[str] = []
    for cost in check_costs([LLMRequestCost(metadata_key="c", type="CEL", cel=text_of(data))], problems):
        assert CostExpression(cost.cel or "").compute(Usage(1, 2, 3), "m", "b", "r") >= 0
    assert all(problem.startswith("llmRequestCosts[c].cel: ") for problem in problems)


_RECORD = b'{"id":"1","time":1.0,"route":"r","method":"POST","path":"/v1/chat/completions","status":200,"model":"m","attempts":[]}'


@reads("recorded requests", _RECORD, _RECORD.replace(b"1.0", b"1e308"))
def recorded_requests(data: bytes) -> None:
    path = folder() / "recorded.jsonl"
    path.write_bytes(data)
    try:
        records = read_records(path)
    except UserError:
        return
    loop().run_until_complete(try_records(_recorded_plan(), records[:20]))


@cache
def _recorded_plan() -> Any:
    return make_plan(observe(gateway(8080), *backend("a", 1), ai_route("r", "m", {"name": "a"})))


@reads(
    "manifests",
    b"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: ${A:=b}}\n---\n",
    b'{"kind":"List","items":[{}]}',
    b"a: &a [*a]",
    b"- !!python/object 1",
)
def manifests(data: bytes) -> None:
    path = folder() / "manifest.yaml"
    path.write_bytes(data)
    try:
        found = read_manifests([str(path)], lambda _, text: substitute(text, {"A": "x"}).text)
    except UserError as error:
        assert str(error)
        return
    for manifest in found:
        assert manifest.title
        manifest.place("spec.a[0].b")
    without_effect(found)


_PEM = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@reads(
    "secrets",
    b"a:{SHA}x\nb:c",
    b'{"keys":[{"kty":"RSA","n":"x","e":"AQAB"}]}',
    _PEM,
    b"sk-1\nx: y",
    b"[default]\naws_access_key_id = a",
)
def secrets(data: bytes) -> None:
    text = text_of(data)
    secret = {
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": dict.fromkeys(
            ("apiKey", ".htpasswd", "client-secret", "jwks", "tls.crt", "tls.key", "credentials", "ca.crt"),
            text,
        ),
    }
    config = {"kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"jwks": text, "ca.crt": text}}
    keyed = {
        "kind": "BackendSecurityPolicy",
        "metadata": {"name": "k"},
        "spec": {
            "targetRefs": [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "a"}],
            "type": "APIKey",
            "apiKey": {"secretRef": {"name": "s"}},
        },
    }
    tls = {
        "kind": "Gateway",
        "metadata": {"name": "tls"},
        "spec": {
            "gatewayClassName": "kajitori",
            "listeners": [
                {"name": "a", "protocol": "HTTPS", "port": 8443, "tls": {"certificateRefs": [{"name": "s"}]}}
            ],
        },
    }
    plan = make_plan(
        observe(
            gateway(8080), tls, *backend("a", 1), secret, config, keyed, ai_route("r", "m", {"name": "a"}),
            plain_route("plain", "/p"),
            policy("b", for_route("plain"), basicAuth={"users": {"name": "s"}}),
            policy("j", for_route("r"), jwt=local_jwt(localJWKS={"type": "Inline", "inline": text})),
        )
    )  # fmt: skip
    assert "a defect of the gateway" not in json.dumps([update.status for update in plan.statuses])
    for kind, resources in plan.resources.by_type.items():
        for resource in resources.values():
            encoder().encode(kind, resource)


@reads(
    "price lists",
    b'{"prices":[{"model":"m","input":"1.5","output":"1e3"}]}',
    b'{"prices":[{"model":"gpt*","cachedInput":"0.1","request":"1"}]}',
)
def price_lists(data: bytes) -> None:
    from kajitori.api.kajitori_gateway.price_list import PriceList

    try:
        spec = json.loads(data)
        document = {"kind": "PriceList", "metadata": {"name": "p"}, "spec": spec}
        msgspec.convert({**document, "metadata": {"name": "p", "namespace": "d"}}, PriceList)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return
    plan = make_plan(observe(gateway(8080), *backend("a", 1), ai_route("r", "m", {"name": "a"}), document))
    assert "a defect of the gateway" not in json.dumps([update.status for update in plan.statuses])
