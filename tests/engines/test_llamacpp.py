"""llama-server: its command line, and a real model that answers through it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.errors import UsageError
from kajitori.engines.adapter import Launch
from kajitori.engines.addresses import bind_address
from kajitori.engines.images import find_program
from kajitori.engines.llamacpp import ADAPTER
from kajitori.engines.llamacpp_flags import FLAGS, read_arguments
from kajitori.engines.spelling import distance, nearest
from tests.waiting import eventually_blocking


def read(*arguments: str, **environment: str):
    return read_arguments(["-m", "x.gguf", *arguments], environment)


def test_flags_are_read_in_both_forms_and_by_both_names():
    settings = read("-c", "4096", "--parallel=2", "-t", "3", "--temp", "0.5", "--alias", "a,b", "--alias=c")
    assert settings.assignments["n_ctx"] == 4096
    assert settings.assignments["n_parallel"] == 2
    assert (
        settings.assignments["cpuparams.n_threads"] == settings.assignments["cpuparams_batch.n_threads"] == 3
    )
    assert settings.assignments["sampling.temp"] == 0.5
    assert settings.assignments["model_alias"] == ["a", "b", "c"]


def test_one_thread_is_the_default():
    assert read().assignments["cpuparams.n_threads"] == 1


def test_a_flag_wins_over_its_variable():
    assert read(LLAMA_ARG_CTX_SIZE="10").assignments["n_ctx"] == 10
    assert read("-c", "20", LLAMA_ARG_CTX_SIZE="10").assignments["n_ctx"] == 20
    assert read("--alias", "a", LLAMA_ARG_ALIAS="b").assignments["model_alias"] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ctx-sise", "1"], "did you mean --ctx-size?"),
        (["--prot=80"], "did you mean --port?"),
        (["--port", "http"], "wants a number"),
        (["--port"], "wants a value"),
        (["--completely-different-thing"], "known are"),
        (["--api-key-file", "/does/not/exist"], "api-key-file"),
    ],
)
def test_a_bad_flag_is_refused_with_what_to_write(arguments, message):
    with pytest.raises(UsageError) as error:
        read(*arguments)
    assert message in str(error.value)


def test_no_model_is_refused():
    with pytest.raises(UsageError, match="--model"):
        read_arguments([], {})


def test_a_flag_without_effect_here_is_noted():
    assert "-ngl has no effect" in read("-ngl", "99").notes[0]


@given(flag=st.sampled_from(FLAGS), number=st.integers(1, 9))
def test_every_flag_is_accepted_by_every_name(flag, number):
    value = [] if flag.kind in ("on", "off", "noted") else [str(number)]
    if flag.target == "=api-key-file":
        return
    for name in flag.names:
        read_arguments(["-m", "x", name, *value], {})


@pytest.mark.parametrize(
    ("host", "pod", "bound"),
    [
        ("", "127.16.0.5", "127.16.0.5"),
        ("0.0.0.0", "127.16.0.5", "127.16.0.5"),
        ("::", "127.16.0.5", "127.16.0.5"),
        ("127.0.0.1", "127.16.0.5", "127.0.0.1"),
        ("0.0.0.0", "", "127.0.0.1"),
    ],
)
def test_a_server_binds_the_pods_address_where_a_container_would_bind_all(host, pod, bound):
    assert bind_address(host, pod) == bound


@given(left=st.text("abc-", max_size=6), right=st.text("abc-", max_size=6))
def test_distance_is_a_distance(left, right):
    assert distance(left, right) == distance(right, left)
    assert (distance(left, right) == 0) is (left == right)
    assert distance(left, right) <= max(len(left), len(right))


def test_nothing_is_suggested_for_a_word_that_is_far_from_all():
    assert nearest("zzzz", ["model", "port"]) == ""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(url: str, body: dict | None = None, key: str = "k1"):
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    return urllib.request.urlopen(request, timeout=60)


@contextlib.contextmanager
def running_server(weights_cache: Path, cache: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """A llama-server of SmolLM2 as a node starts it, on an address that only a pod would have."""
    program = find_program("ghcr.io/ggml-org/llama.cpp:server", {}, cache=cache)
    launch = Launch(
        model="smollm2-135m",
        host="0.0.0.0",
        port=free_port(),
        context_tokens=512,
        parallel_requests=2,
        api_key="k1",
    )
    environment = {
        "PATH": f"{program.bin_path}:{os.environ['PATH']}",
        "KAJITORI_CACHE": str(weights_cache),
        "KAJITORI_POD_IP": "127.201.7.9",
    }
    process = subprocess.Popen(ADAPTER.arguments(launch), env=environment)
    url = f"http://127.201.7.9:{launch.port}"
    try:

        def healthy() -> bool:
            assert process.poll() is None, "llama-server ended"
            ask(url + ADAPTER.health_path).close()
            return True

        eventually_blocking(healthy, "llama-server is well", 60, despite=(OSError,))
        yield url, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(weights_cache, tmp_path_factory) -> Iterator[tuple[str, subprocess.Popen]]:
    with running_server(weights_cache, tmp_path_factory.mktemp("cache", numbered=True)) as started:
        yield started


QUESTION = {
    "model": "smollm2-135m",
    "messages": [{"role": "user", "content": "What is gravity?"}],
    "max_tokens": 24,
    "temperature": 0,
}


def test_a_real_model_answers(server):
    url, _ = server
    with ask(url + "/v1/chat/completions", QUESTION) as response:
        answer = json.load(response)
    assert "gravity" in answer["choices"][0]["message"]["content"].lower()
    assert answer["usage"]["completion_tokens"] > 0


def test_its_models_and_metrics_are_where_the_adapter_says(server):
    url, _ = server
    with ask(url + ADAPTER.models_path) as response:
        assert json.load(response)["data"][0]["id"] == "smollm2-135m"
    with ask(url + ADAPTER.metrics_path) as response:
        text = response.read().decode()
    for name in (
        ADAPTER.metrics.requests_running,
        ADAPTER.metrics.requests_waiting,
        ADAPTER.metrics.generation_tokens,
    ):
        assert f"\n{name} " in text


def test_without_its_key_it_answers_401_and_only_health_stays_open(server):
    url, _ = server
    with pytest.raises(urllib.error.HTTPError) as error:
        ask(url + "/v1/chat/completions", QUESTION, key="wrong")
    assert error.value.code == 401
    error.value.close()
    ask(url + "/health", key="wrong").close()


def test_on_sigterm_it_finishes_the_answer_that_it_has_begun(weights_cache, tmp_path):
    body = {**QUESTION, "stream": True, "max_tokens": 60, "ignore_eos": True}
    with running_server(weights_cache, tmp_path) as (url, process):
        with ask(url + "/v1/chat/completions", body) as response:
            lines = [response.readline()]
            process.send_signal(signal.SIGTERM)
            lines += response.readlines()
        assert process.wait(timeout=60) == 0
    assert b"data: [DONE]" in b"".join(lines)
    chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
