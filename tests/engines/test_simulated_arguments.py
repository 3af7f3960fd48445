"""The command line of the simulated vLLM."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.engines.adapter import Launch
from kajitori.engines.simulated.arguments import ArgumentError, read_arguments
from kajitori.engines.simulated.flags import LISTS, SHORT, SWITCHES, VALUES
from kajitori.engines.vllm import ADAPTER, requested_model

from .simulated_processes import PROGRAM, start


def read(*arguments: str):
    return read_arguments(["serve", "m", *arguments])


def test_the_two_commands_of_a_leader_worker_set_are_read():
    shared = ["--tensor-parallel-size=8", "--pipeline-parallel-size=1", "--nnodes=8", "--master-addr=lead.er"]
    leader = read_arguments(["serve", "deepseek-ai/DeepSeek-R1", "--port=8000", *shared, "--node-rank=0"])
    assert (leader.model, leader.port, leader.rank, leader.headless) == (
        "deepseek-ai/DeepSeek-R1",
        8000,
        0,
        False,
    )
    worker = read_arguments(["serve", "deepseek-ai/DeepSeek-R1", "--headless", *shared, "--node-rank=5"])
    assert (worker.nodes, worker.rank, worker.headless) == (8, 5, True)
    assert (worker.rendezvous_host, worker.rendezvous_port) == ("lead.er", 29501)


def test_groups_of_replicas_are_read_too():
    settings = read(
        "-dp=16", "--data-parallel-size-local=8", "--data-parallel-start-rank=8", "-dpa=a", "-dpp=1"
    )
    assert (settings.nodes, settings.rank) == (2, 1)
    assert (settings.rendezvous_host, settings.rendezvous_port) == ("a", 1)


def test_names_may_be_written_with_underscores_and_values_apart():
    settings = read(
        "--max_model_len", "32k", "-tp", "2", "--served-model-name", "a", "b", "--no-enable-prefix-caching"
    )
    assert settings.max_model_tokens == 32_000
    assert settings.tensor_parallel == 2
    assert settings.served_names == ["a", "b"]
    assert settings.prefix_caching is False


def test_the_model_may_come_by_flag():
    assert read_arguments(["serve", "--model", "x", "--port=1"]).model == "x"


def test_flags_without_effect_are_accepted_and_named():
    settings = read("--enforce-eager", "--compilation-config.level=3", "-O3", "--hf-overrides", '{"a":1}')
    assert settings.not_simulated == [
        "--compilation-config",
        "--enforce-eager",
        "--hf-overrides",
        "--optimization-level",
    ]


@given(name=st.sampled_from(sorted(SWITCHES | LISTS | VALUES)))
def test_every_flag_of_vllm_is_known(name):
    # A rank of 1 needs a second one.
    value = [] if name in SWITCHES else ["0" if name == "data-parallel-start-rank" else "1"]
    if name in ("nnodes", "data-parallel-size"):
        return
    read(f"--{name}", *value)
    if name in SWITCHES:
        read(f"--no-{name}")


@pytest.mark.parametrize(
    "flag", ["--allowed-origins", "--middleware", "--device-ids", "--custom-histogram-buckets"]
)
def test_a_list_that_is_written_as_one_word_takes_one_word(flag):
    assert read_arguments(["serve", flag, "0", "my-model"]).model == "my-model"


def test_every_short_flag_stands_for_a_known_one():
    assert set(SHORT.values()) <= SWITCHES | LISTS | VALUES
    assert not SWITCHES & VALUES
    assert not LISTS & VALUES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tensor-paralel-size=8"], "did you mean --tensor-parallel-size?"),
        (["--port=http"], "argument --port: invalid int value: 'http'"),
        (["--port"], "argument --port: expected one argument"),
        (["--port", "--headless"], "argument --port: expected one argument"),
        (["--tensor-parallel-size=0"], "is below 1"),
        (["--nnodes=3", "-tp=8"], "cannot be divided by 3 nodes"),
        (["--nnodes=2", "-tp=8", "--node-rank=2"], "node rank 2 is not within 0 to 1"),
        (["--gpu-memory-utilization=90"], "is not within 0 and 1"),
        (["--max-model-len=long"], "invalid human_readable_int value"),
        (["--wholly-unknown-option"], "unrecognized arguments: --wholly-unknown-option"),
        (["-z"], "unrecognized arguments: -z"),
        (["second-model"], "unrecognized arguments: second-model"),
        (["-dp=6", "--data-parallel-size-local=4"], "cannot be divided"),
    ],
)
def test_what_vllm_would_refuse_is_refused(arguments, message):
    with pytest.raises(ArgumentError) as error:
        read(*arguments)
    assert message in str(error.value)


@pytest.mark.parametrize("arguments", [[], ["chat"], ["serve"], ["serve", "--port=1"]])
def test_anything_but_serve_with_a_model_is_refused(arguments):
    with pytest.raises(ArgumentError):
        read_arguments(arguments)


def test_the_adapters_command_line_is_one_that_the_engine_reads():
    launch = Launch(
        model="m",
        served_name="s",
        port=9,
        context_tokens=100,
        parallel_requests=3,
        tensor_parallel=2,
        api_key="k",
    )
    command = ADAPTER.arguments(launch)
    settings = read_arguments(command[1:])
    assert settings.not_simulated == []
    assert (settings.served_names, settings.port, settings.api_keys) == (["s"], 9, ["k"])
    assert (settings.max_model_tokens, settings.max_sequences, settings.tensor_parallel) == (100, 3, 2)
    assert requested_model(command) == "m"


def test_an_error_is_one_line_and_exit_code_2(tmp_path):
    log = tmp_path / "log"
    assert start(["serve", "m", "--prot=1"], log).wait(timeout=30) == 2
    assert (
        log.read_text()
        == "vllm (simulated): error: unrecognized arguments: --prot=1 (did you mean --port?)\n"
    )


def test_the_version_says_that_it_is_simulated():
    answer = subprocess.run(
        [sys.executable, "-S", PROGRAM, "--version"], capture_output=True, text=True, check=True
    )
    assert "simulated" in answer.stdout
