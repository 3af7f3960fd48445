"""Images and the local programs that stand for them."""

from __future__ import annotations

import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kajitori.base.errors import InvalidManifest
from kajitori.base.reason import Reason
from kajitori.engines.images import Program, find_program, matches, parse_image, read_user_mappings


def find(image: str, tmp_path: Path, mappings: dict | None = None, **kwargs) -> Program | Reason:
    return find_program(image, mappings or {}, cache=tmp_path, **kwargs)


@pytest.mark.parametrize(
    ("image", "engine"),
    [
        ("vllm/vllm-openai:latest", "simulated-vllm"),
        ("docker.io/vllm/vllm-openai@sha256:" + "a" * 64, "simulated-vllm"),
        ("ghcr.io/ggml-org/llama.cpp:server", "llama.cpp"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda-b4711", "llama.cpp"),
        ("python:3.12-slim", "python"),
        ("docker.io/library/python", "python"),
        ("pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime", "python"),
        ("busybox", "shell"),
        ("index.docker.io/library/busybox:1.36", "shell"),
        ("ubuntu:24.04", "shell"),
        ("registry.k8s.io/pause:3.10", "pause"),
        ("kajitori/kajitori:0.1.0", "kajitori"),
        ("envoyproxy/envoy:v1.40.0", "envoy"),
    ],
)
def test_a_known_image_has_its_program(image, engine, tmp_path):
    program = find(image, tmp_path)
    assert isinstance(program, Program)
    assert program.engine == engine
    assert program.simulated is (engine == "simulated-vllm")


def test_only_a_simulated_program_carries_a_notice(tmp_path):
    assert "simulated" in find("vllm/vllm-openai", tmp_path).notice
    assert find("busybox", tmp_path).notice == ""


def test_an_image_without_a_mapping_names_the_yaml_to_write_and_the_file(tmp_path):
    reason = find("nginx:1.27", tmp_path, mappings_path="/home/me/.kaji/images.yaml")
    assert isinstance(reason, Reason)
    assert reason.code == "ImageNotMapped"
    assert "/home/me/.kaji/images.yaml" in reason.hint
    written = reason.hint.split(": ", 1)[1].split("; engines")[0]
    cured = find("nginx:1.27", tmp_path, yaml.safe_load(written))
    assert isinstance(cured, Program)
    assert cured.entrypoint == ["/path/of/program"]


def test_a_users_mapping_comes_before_ours(tmp_path):
    mappings = {"images": [{"match": "busy*", "engine": "python", "env": {"A": "b"}}]}
    program = find("busybox", tmp_path, mappings)
    assert (program.engine, program.env) == ("python", {"A": "b"})


@pytest.mark.parametrize(
    ("mappings", "word"),
    [
        ({"images": [{"match": "x", "engin": "shell"}]}, "engin"),
        ({"images": [{"match": 3}]}, "images[0].match"),
        ({"pictures": []}, "pictures"),
        ({"images": [{"match": "nginx", "engine": "apache"}]}, "apache"),
    ],
)
def test_a_bad_mapping_is_named_not_ignored(mappings, word, tmp_path):
    reason = find("nginx", tmp_path, mappings)
    assert isinstance(reason, Reason)
    assert reason.code == "InvalidImageMapping"
    assert word in reason.message


@pytest.mark.parametrize("image", ["", "Upper/case", "a b", "x:", "http://x/y", "-x", "x@sha256:1"])
def test_an_invalid_reference_says_so(image, tmp_path):
    assert find(image, tmp_path).code == "InvalidImageName"


def test_a_llama_cpp_image_that_is_no_server_is_refused_with_the_one_that_is(tmp_path):
    reason = find("ghcr.io/ggml-org/llama.cpp:full", tmp_path)
    assert reason.code == "ImageNotMapped"
    assert "llama.cpp:server" in reason.message


NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)


@given(path=st.lists(NAMES, min_size=1, max_size=3), tag=NAMES, other=NAMES)
def test_tag_and_digest_do_not_matter_unless_the_pattern_has_a_tag(path, tag, other):
    name = "/".join(path)
    for reference in (name, f"{name}:{tag}", f"{name}:{tag}@sha256:{'0' * 64}"):
        assert matches(name, parse_image(reference))
        assert matches("*", parse_image(reference))
    assert matches(f"{name}:{tag}", parse_image(f"{name}:{tag}"))
    assert matches(f"{name}:{other}", parse_image(f"{name}:{tag}")) is (other == tag)


@given(registry=NAMES, name=NAMES)
def test_a_registry_is_never_taken_for_docker_hub(registry, name):
    image = parse_image(f"{registry}.example:5000/{name}:1")
    assert image.repository == f"{registry}.example:5000/{name}"
    assert not matches(name, image)
    assert matches(f"*/{name}", image)


def test_executables_run_this_interpreter(tmp_path):
    program = find("python:3.12", tmp_path)
    path = os.path.join(program.bin_path, "python3")
    answer = subprocess.run(
        [path, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == sys.prefix


def test_a_bin_folder_is_made_once(tmp_path):
    first = find("python", tmp_path).bin_path
    before = os.stat(first).st_mtime_ns
    assert find("python:3.11", tmp_path).bin_path == first
    assert os.stat(first).st_mtime_ns == before
    assert [entry.name for entry in (tmp_path / "bin").iterdir()] == [Path(first).name]


@pytest.mark.parametrize(
    ("image", "arguments", "word"),
    [
        ("kajitori/kajitori:9", ["kaji", "version"], "kajitori "),
        ("kajitori/kajitori:9", ["python3", "-c", "import kajitori; print('library')"], "library"),
        ("envoyproxy/envoy:v1.40.0", ["envoy", "--version"], "version:"),
        ("envoyproxy/envoy:v1.40.0", ["docker-entrypoint.sh", "--version"], "version:"),
        ("envoyproxy/envoy:v1.40.0", ["envoy", "--disable-hot-restart", "--version"], "version:"),
    ],
)
def test_the_images_of_an_installation_run_what_is_installed_here(image, arguments, word, tmp_path):
    program = find(image, tmp_path)
    assert isinstance(program, Program)
    path = f"{program.bin_path}:{os.environ['PATH']}"
    result = subprocess.run(
        arguments, env={"PATH": path, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert word in result.stdout, result


def test_pause_ends_on_sigterm_with_success(tmp_path):
    program = find("registry.k8s.io/pause", tmp_path)
    process = subprocess.Popen([os.path.join(program.bin_path, "pause")], start_new_session=True)
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text():
            assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()


def test_the_users_file_is_read_and_its_errors_are_placed(tmp_path):
    path = tmp_path / "images.yaml"
    assert read_user_mappings(path) == {}
    path.write_text("")
    assert read_user_mappings(path) == {}
    path.write_text("images: [\n")
    with pytest.raises(InvalidManifest, match="line"):
        read_user_mappings(path)
    path.write_text("- x\n")
    with pytest.raises(InvalidManifest, match="images"):
        read_user_mappings(path)
