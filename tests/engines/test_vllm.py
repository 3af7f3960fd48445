"""Where a real vLLM is looked for, when it serves, and when the simulated one stands in. The vLLM here is a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from kajitori.base.reason import Reason
from kajitori.engines.images import Program, find_program
from kajitori.engines.vllm import ENVIRONMENT_VARIABLE, Asked, find_vllm, local_weights

IMAGE = "vllm/vllm-openai:latest"


def install_vllm(environment: Path) -> Path:
    """An environment with a `vllm` that says so; the executable."""
    executable = environment / "bin" / "vllm"
    executable.parent.mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
    executable.write_text('#!/bin/sh\necho "vllm $*"\n')
    executable.chmod(0o755)
    return executable


def put_weights(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def put_cached(cache: Path, model: str) -> Path:
    """A model in a Hugging Face cache, whose snapshots are links."""
    folder = cache / f"models--{model.replace('/', '--')}"
    put_weights(folder / "blobs")
    snapshot = folder / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(folder / "blobs" / name)
    return folder


@pytest.fixture(autouse=True)
def clean_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without vLLM and without models."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setenv("HOME", str(empty))
    for name in (ENVIRONMENT_VARIABLE, "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    executable = install_vllm(tmp_path / "vllm-env")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(executable))
    return executable


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return put_weights(tmp_path / "model")


def find(tmp_path: Path, *command: str, mappings: dict | None = None, **asked) -> Program:
    found = find_program(
        IMAGE, mappings or {}, asked=Asked(command=command, **asked), cache=tmp_path / "cache"
    )
    assert isinstance(found, Program)
    return found


def test_without_a_vllm_the_simulated_one_says_where_it_was_looked_for(tmp_path, weights):
    program = find(tmp_path, "vllm", "serve", str(weights))
    assert (program.engine, program.simulated) == ("simulated-vllm", True)
    assert "simulated" in program.notice
    assert "PATH" in program.notice
    assert ENVIRONMENT_VARIABLE in program.notice


@pytest.mark.parametrize("named", ["bin/vllm", "bin", "."])
def test_the_variable_names_the_executable_its_folder_or_its_environment(
    named, tmp_path, weights, monkeypatch
):
    executable = install_vllm(tmp_path / "vllm-env")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "vllm-env" / named))
    program = find(tmp_path, "vllm", "serve", str(weights))
    assert (program.engine, program.simulated, program.notice) == ("vllm", False, "")
    assert program.bin_path == str(executable.parent)


def test_a_vllm_on_path_is_found_where_its_link_leads(tmp_path, weights, monkeypatch):
    executable = install_vllm(tmp_path / "tools" / "vllm")
    links = tmp_path / "links"
    links.mkdir()
    (links / "vllm").symlink_to(executable)
    monkeypatch.setenv("PATH", str(links))
    program = find(tmp_path, "vllm", "serve", str(weights))
    assert program.bin_path == str(executable.parent)
    assert str(tmp_path / "tools" / "vllm") in program.folders


def test_a_mapping_beats_the_variable_and_the_variable_beats_path(tmp_path, monkeypatch):
    mapped, named, on_path = (install_vllm(tmp_path / name) for name in ("mapped", "named", "on-path"))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_vllm() == on_path
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(named))
    assert find_vllm() == named
    assert find_vllm(str(mapped.parent)) == mapped


def test_a_users_mapping_names_the_environment(tmp_path, weights):
    executable = install_vllm(tmp_path / "vllm-env")
    mapping = {"match": "vllm/*", "engine": "vllm", "bin_path": str(tmp_path / "vllm-env"), "env": {"A": "b"}}
    program = find(tmp_path, "vllm", "serve", str(weights), mappings={"images": [mapping]})
    assert (program.bin_path, program.env["A"]) == (str(executable.parent), "b")


def test_a_mapping_to_the_simulated_engine_holds_where_vllm_is_installed(tmp_path, weights, installed):
    mapping = {"match": "vllm/*", "engine": "simulated-vllm", "entrypoint": ["vllm", "serve"]}
    assert find(tmp_path, "vllm", "serve", str(weights), mappings={"images": [mapping]}).simulated


def test_a_variable_that_leads_nowhere_is_told_rather_than_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "nothing"))
    reason = find_program(IMAGE, {}, cache=tmp_path)
    assert isinstance(reason, Reason)
    assert reason.code == "ProgramMissing"
    assert str(tmp_path / "nothing") in reason.message
    assert "virtual environment" in reason.hint


def test_weights_that_are_not_here_are_simulated_and_named(tmp_path, installed):
    program = find(tmp_path, "vllm", "serve", "deepseek-ai/DeepSeek-R1")
    assert program.simulated
    assert "the weights of deepseek-ai/DeepSeek-R1 are not on this machine" in program.notice


def test_a_group_of_several_hosts_is_simulated(tmp_path, weights, installed):
    assert find(tmp_path, "vllm", "serve", str(weights), "--nnodes=8", "--node-rank=0").simulated
    assert not find(tmp_path, "vllm", "serve", str(weights), "--nnodes", "1").simulated


@pytest.mark.parametrize(
    "command",
    [
        ["vllm", "serve", "{}", "--port=8000"],
        ["/usr/local/bin/vllm", "serve", "{}"],
        ["vllm", "serve", "--model={}"],
        ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "{}"],
        ["sh", "-c", "echo starting && exec vllm serve {} --port 8000"],
        ["sh", "-c", "vllm serve \\\n  {} \\\n  --port 8000\n"],
        ["bash", "-c", "vllm serve $MODEL"],
        ["bash", "-c", 'vllm serve "${{MODEL}}" || true'],
    ],
)
def test_the_model_is_found_in_the_ways_that_people_write_it(command, tmp_path, weights, installed):
    words = [word.format(weights) for word in command]
    assert not find(tmp_path, *words, environment={"MODEL": str(weights)}).simulated


@pytest.mark.parametrize("args", [["{}"], ["--model", "{}"], ["{}", "--port=8000"]])
def test_arguments_alone_follow_the_images_entrypoint(args, tmp_path, weights, installed):
    assert not find(tmp_path, args=[word.format(weights) for word in args]).simulated


@pytest.mark.parametrize(
    "command", [["vllm", "bench", "serve"], ["ray", "serve", "{}"], ["sh", "-c", "it's"]]
)
def test_other_commands_name_no_model(command, tmp_path, weights, installed):
    program = find(tmp_path, *(word.format(weights) for word in command))
    assert "names no model" in program.notice


def test_a_model_is_found_in_the_cache_of_whoever_runs_the_cluster(tmp_path, installed, monkeypatch):
    folder = put_cached(tmp_path / "hf" / "hub", "me/tiny")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    program = find(tmp_path, "vllm", "serve", "me/tiny")
    assert not program.simulated
    assert program.env["HF_HUB_CACHE"] == str(tmp_path / "hf" / "hub")
    assert program.env["HF_HUB_OFFLINE"] == "1"
    assert program.weights == str(folder)


def test_a_containers_own_cache_in_a_volume_is_where_its_model_is_looked_for(tmp_path, installed):
    put_cached(tmp_path / "volume" / "hub", "me/tiny")
    asked = {"environment": {"HF_HOME": "/models"}, "mounts": {"/models": str(tmp_path / "volume")}}
    program = find(tmp_path, "vllm", "serve", "me/tiny", **asked)
    assert not program.simulated
    assert "HF_HUB_CACHE" not in program.env
    assert program.weights == ""
    assert find(tmp_path, "vllm", "serve", "me/tiny", environment={"HF_HOME": "/models"}).simulated


def test_a_folder_in_a_volume_is_looked_for_where_the_volume_lies(tmp_path, installed):
    put_weights(tmp_path / "volume" / "tiny")
    mounts = {"/models": str(tmp_path / "volume")}
    assert not find(tmp_path, "vllm", "serve", "/models/tiny/", mounts=mounts).simulated
    assert find(tmp_path, "vllm", "serve", "/models/other", mounts=mounts).simulated
    assert find(tmp_path, "vllm", "serve", "/models/tiny").simulated


def test_a_model_that_was_not_fetched_to_its_end_is_not_here(tmp_path, monkeypatch):
    folder = put_cached(tmp_path / "hub", "me/tiny")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert local_weights("me/tiny") == folder
    (folder / "blobs" / "model.safetensors").unlink()
    assert local_weights("me/tiny") is None


def test_a_relative_path_is_no_folder_of_ours(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(weights.parent)
    assert local_weights(weights.name) is None
    assert local_weights(f"./{weights.name}") is None


def test_the_cache_of_keys_and_values_is_small_unless_the_command_sizes_it(tmp_path, weights, installed):
    assert find(tmp_path, "vllm", "serve", str(weights)).env["VLLM_CPU_KVCACHE_SPACE"] == "1"
    for flag in ("--kv-cache-memory-bytes=2G", "--gpu-memory-utilization=0.5"):
        assert "VLLM_CPU_KVCACHE_SPACE" not in find(tmp_path, "vllm", "serve", str(weights), flag).env


def test_nothing_is_sent_to_anybody(tmp_path, weights, installed):
    assert find(tmp_path, "vllm", "serve", str(weights)).env["VLLM_NO_USAGE_STATS"] == "1"
