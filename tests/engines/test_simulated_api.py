"""The simulated engine's HTTP API, through the client that users bring and by hand."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kajitori.engines.vllm import ADAPTER, METRICS

from .simulated_processes import Engine, wait_for

MODEL = "Qwen/Qwen3-8B"
HELLO = [{"role": "user", "content": "Say something about gateways."}]


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[Engine]:
    """Twenty times as fast as an H200 would be."""
    folder = tmp_path_factory.mktemp("engine")
    arguments = ["--api-key", "k1", "--served-model-name", "qwen", "also-qwen", "--max-model-len=2k"]
    arguments += ["--enforce-eager", "--dtype=bfloat16", "--enable-prompt-tokens-details"]
    with Engine(folder, *arguments, model=MODEL, KAJITORI_SIMULATED_SPEED="20") as engine:
        yield engine.wait_ready()


@pytest.fixture
def client(engine) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=engine.url + "/v1", api_key="k1", max_retries=0) as client:
        yield client


def post(engine: Engine, path: str, body: bytes | dict, key: str = "k1") -> tuple[int, dict, dict]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(engine.url + path, data, {"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


def metrics(engine: Engine) -> dict[tuple[str, str], float]:
    with urllib.request.urlopen(engine.url + ADAPTER.metrics_path) as response:
        families = text_string_to_metric_families(response.read().decode())
        samples = [sample for family in families for sample in family.samples]
    return {(sample.name, sample.labels.get("source", "")): sample.value for sample in samples}


def test_a_chat_answers_with_usage_and_says_that_it_is_simulated(client):
    raw = client.chat.completions.with_raw_response.create(model="qwen", messages=HELLO, max_tokens=16)
    answer = raw.parse()
    assert raw.headers["x-kajitori-simulated"] == "true"
    assert answer.choices[0].message.content.startswith("This answer is simulated.")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16


def test_a_stream_is_the_same_answer_with_the_usage_at_its_end(client):
    options = {"model": "qwen", "messages": HELLO, "max_tokens": 30, "seed": 5}
    whole = client.chat.completions.create(**options)
    stream = client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 30


def test_usage_comes_only_when_it_is_asked_for(client):
    chunks = list(client.chat.completions.create(model="qwen", messages=HELLO, max_tokens=3, stream=True))
    assert all(chunk.usage is None for chunk in chunks)


def test_an_answer_ends_by_itself_unless_told_to_go_on(client):
    answer = client.chat.completions.create(model="qwen", messages=HELLO)
    assert answer.choices[0].finish_reason == "stop"
    assert 40 <= answer.usage.completion_tokens <= 160
    longer = client.chat.completions.create(
        model="qwen", messages=HELLO, max_tokens=200, extra_body={"ignore_eos": True}
    )
    assert longer.usage.completion_tokens == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_the_answer_before_it(client, stream):
    answer = client.chat.completions.create(model="qwen", messages=HELLO, stop=["simulated"], stream=stream)
    if stream:
        chunks = list(answer)
        content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        content, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert content == "This answer is "
    assert reason == "stop"


def test_plain_completions_take_texts_and_tokens(engine, client):
    one = client.completions.create(model="qwen", prompt="Hello", max_tokens=4)
    assert one.choices[0].finish_reason == "length"
    several = client.completions.create(model="also-qwen", prompt=["Hello", "there"], max_tokens=4)
    assert [choice.index for choice in several.choices] == [0, 1]
    assert several.usage.completion_tokens == 8
    _, tokens, _ = post(engine, "/tokenize", {"prompt": "Hello"})
    again = client.completions.create(model="qwen", prompt=tokens["tokens"], max_tokens=4)
    assert again.choices[0].text == one.choices[0].text
    chunks = list(client.completions.create(model="qwen", prompt="Hello", max_tokens=4, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == one.choices[0].text


def test_models_are_listed_as_simulated(client):
    models = client.models.list().data
    assert [model.id for model in models] == ["qwen", "also-qwen"]
    assert all(model.simulated is True for model in models)
    assert models[0].max_model_len == 2000
    assert models[0].root == MODEL


def test_tokens_turn_back_into_their_text(engine):
    text = "Grüße, 舵取り!"
    _, answer, _ = post(engine, "/tokenize", {"prompt": text, "return_token_strs": True})
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    _, back, _ = post(engine, "/detokenize", {"tokens": answer["tokens"]})
    assert back == {"prompt": text}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/chat/completions", b"{", 400, "not JSON"),
        ("/v1/chat/completions", b"\xff\xfe", 400, "JSON"),
        ("/v1/chat/completions", {"model": "qwen"}, 400, "messages"),
        ("/v1/chat/completions", {"messages": [], "model": "qwen"}, 400, "messages is empty"),
        ("/v1/chat/completions", {"messages": [{}]}, 400, "role"),
        ("/v1/chat/completions", {"messages": HELLO, "max_tokens": "many"}, 400, "$.max_tokens"),
        ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 0}, 400, "at least 1"),
        (
            "/v1/chat/completions",
            {"messages": HELLO, "max_tokens": 5000},
            400,
            "maximum context length is 2000",
        ),
        ("/v1/chat/completions", {"messages": HELLO, "n": 2}, 400, "n=2"),
        ("/v1/chat/completions", {"messages": HELLO, "model": "gpt-5"}, 404, "`gpt-5` does not exist"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "text only",
        ),
        ("/v1/completions", {"prompt": "x" * 9000}, 400, "maximum context length"),
        ("/v1/completions", {"prompt": []}, 400, "empty"),
        ("/v1/completions", {"prompt": ["a", 3]}, 400, "neither"),
        ("/v1/completions", {"prompt": [-1]}, 400, "negative"),
        ("/detokenize", {"tokens": [-1]}, 400, "negative"),
        ("/tokenize", {}, 400, "prompt or messages"),
    ],
)
def test_bad_requests_get_an_error_in_openais_shape(engine, path, body, status, message):
    code, answer, headers = post(engine, path, body)
    assert code == status
    assert message in answer["error"]["message"]
    assert answer["error"]["code"] == status
    assert headers["x-kajitori-simulated"] == "true"


def test_a_wrong_key_is_refused_where_vllm_refuses_it(engine):
    assert post(engine, "/v1/chat/completions", {"messages": HELLO}, key="k2")[0] == 401
    assert post(engine, "/tokenize", {"prompt": "x"}, key="k2")[0] == 200
    for path in ADAPTER.open_paths:
        urllib.request.urlopen(engine.url + path).close()


def test_a_path_that_is_none_is_404_and_a_wrong_method_405(engine):
    assert post(engine, "/v2/nothing", {})[:2] == (404, {"detail": "Not Found"})
    assert post(engine, "/version", {})[0] == 405


def test_metrics_have_vllms_names_and_add_up(engine, client):
    before = metrics(engine)
    prompt = "A system prompt that every request shares. " * 20
    usages = [
        client.completions.create(model="qwen", prompt=prompt + str(n), max_tokens=10).usage for n in range(3)
    ]
    after = metrics(engine)

    def grown(name: str, source: str = "") -> float:
        return after[name, source] - before[name, source]

    prompt_tokens = sum(usage.prompt_tokens for usage in usages)
    cached = sum(usage.prompt_tokens_details.cached_tokens for usage in usages)
    assert cached >= 2 * 200
    assert grown(METRICS.generation_tokens) == 30
    assert grown(METRICS.prompt_tokens) == grown(METRICS.prefix_cache_queries) == prompt_tokens
    assert grown(METRICS.prefix_cache_hits) == cached
    assert grown("vllm:prompt_tokens_by_source_total", "local_cache_hit") == cached
    assert grown("vllm:prompt_tokens_by_source_total", "local_compute") == prompt_tokens - cached
    assert grown(METRICS.time_to_first_token + "_count") == 3
    assert grown(METRICS.request_latency + "_count") == 3
    assert grown(METRICS.inter_token_latency + "_count") == 27
    assert after[METRICS.requests_running, ""] == after[METRICS.requests_waiting, ""] == 0
    assert after[METRICS.kv_cache_usage, ""] == 0
    assert after["kajitori_simulated", ""] == 1
    assert (METRICS.preemptions, "") in after


def test_a_client_that_leaves_stops_its_answer(engine):
    with socket.create_connection((engine.address, engine.port)) as connection:
        body = json.dumps({"prompt": "x", "max_tokens": 1900, "stream": True, "ignore_eos": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nauthorization: Bearer k1\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert connection.recv(100)
    wait_for(lambda: metrics(engine)[METRICS.requests_running, ""] == 0, "the request to be forgotten")


def test_connections_are_kept_and_requests_on_them_answered_in_order(engine):
    request = b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n"
    with socket.create_connection((engine.address, engine.port)) as connection:
        connection.sendall(request + request[:10])
        connection.sendall(request[10:] + b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")
        data = b""
        while more := connection.recv(65536):
            data += more
    assert data.count(b"HTTP/1.1 200") == 3


def test_what_follows_a_request_waits_where_it_is(engine):
    body = json.dumps({"prompt": "x", "max_tokens": 1900, "stream": True, "ignore_eos": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nauthorization: Bearer k1\r\ncontent-length: {len(body)}\r\n\r\n"
    sent = 0
    with socket.create_connection((engine.address, engine.port)) as connection:
        connection.sendall(head.encode() + body)
        connection.setblocking(False)
        with contextlib.suppress(ConnectionError):  # at the latest when it is read, since it is no request
            while sent < 64 << 20 and select.select([], [connection], [], 2)[1]:
                sent += connection.send(bytes(1 << 20))
    assert sent < 64 << 20


def test_a_body_in_chunks_is_read(engine):
    connection = http.client.HTTPConnection(engine.address, engine.port)
    parts = iter([b'{"prompt": ', b'"x", "max_tokens": 2}'])
    connection.request("POST", "/v1/completions", parts, {"authorization": "Bearer k1"}, encode_chunked=True)
    assert json.load(connection.getresponse())["usage"]["completion_tokens"] == 2
    connection.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nbroken\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\ncontent-length: " + b"9" * 5_000 + b"\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n+1\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nlong", b"400"),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 70_000, b"431"),
    ],
)
def test_what_is_no_http_is_answered_and_closed(engine, request_bytes, status):
    with socket.create_connection((engine.address, engine.port)) as connection:
        connection.sendall(request_bytes)
        data = b""
        try:
            while more := connection.recv(65536):
                data += more
        except ConnectionResetError:
            pass
    assert data.startswith(b"HTTP/1.1 " + status)


def test_on_sigterm_a_stream_is_finished(tmp_path):
    with Engine(tmp_path, model=MODEL, KAJITORI_SIMULATED_SPEED="2") as engine:
        engine.wait_ready()
        with openai.OpenAI(base_url=engine.url + "/v1", api_key="x", max_retries=0) as client:
            stream = client.completions.create(
                model=MODEL, prompt="x", max_tokens=60, stream=True, extra_body={"ignore_eos": True}
            )
            first = next(stream)
            engine.ranks[0].terminate()
            rest = list(stream)
            assert len([first, *rest]) == 60
            assert rest[-1].choices[0].finish_reason == "length"
        assert engine.ranks[0].wait(timeout=30) == 0
        assert "ending" in engine.log(0).read_text()


@pytest.mark.parametrize(
    ("model", "arguments", "environment", "message"),
    [
        ("deepseek-ai/DeepSeek-R1", ["-tp=4"], {}, "does not fit: 156.2 GiB of weights"),
        ("acme/cat", [], {}, "KAJITORI_MODEL_PARAMETERS"),
        (MODEL, ["--max-model-len=10M"], {}, "does not fit into the KV cache"),
        (MODEL, [], {"KAJITORI_SIMULATED_GPU": "riva128"}, "known are a100, h100, h200"),
        (MODEL, [], {"KAJITORI_SIMULATED_SPEED": "fast"}, "are numbers"),
    ],
)
def test_what_real_gpus_could_not_serve_is_refused_at_the_start(
    tmp_path, model, arguments, environment, message
):
    with Engine(tmp_path, *arguments, model=model, **environment) as engine:
        assert engine.ranks[0].wait(timeout=30) == 1
        assert message in engine.log(0).read_text()


def test_an_unknown_model_is_served_with_its_number_of_parameters(tmp_path):
    with Engine(tmp_path, model="acme/cat", KAJITORI_MODEL_PARAMETERS="30e9,3e9") as engine:
        engine.wait_ready()
        assert "estimated" in engine.log(0).read_text()
