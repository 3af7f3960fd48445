"""vLLM: how it is launched, what its metrics are called, and whether a real one can serve a container here.

A real vLLM is looked for in an environment of its own, since it pins the versions of much that others need. It is used
where the weights are on this machine: a folder, or a snapshot in the Hugging Face cache, as the container sees
them. In any other case the simulated engine, which speaks the same API, stands in for it and says so and why.
"""

from __future__ import annotations

import os
import shlex
import shutil
import string
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kajitori.base.errors import MissingDependency
from kajitori.engines.adapter import Adapter, Launch, MetricNames, flags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENVIRONMENT_VARIABLE = "KAJITORI_VLLM"

METRICS = MetricNames(
    requests_running="vllm:num_requests_running",
    requests_waiting="vllm:num_requests_waiting",
    kv_cache_usage="vllm:kv_cache_usage_perc",
    prompt_tokens="vllm:prompt_tokens_total",
    generation_tokens="vllm:generation_tokens_total",
    prefix_cache_queries="vllm:prefix_cache_queries_total",
    prefix_cache_hits="vllm:prefix_cache_hits_total",
    preemptions="vllm:num_preemptions_total",
    time_to_first_token="vllm:time_to_first_token_seconds",
    inter_token_latency="vllm:inter_token_latency_seconds",
    request_latency="vllm:e2e_request_latency_seconds",
    queue_time="vllm:request_queue_time_seconds",
)

# Several pods share this machine: each takes little memory for its cache (vLLM's own default on a CPU is 92 % of all
# memory, and it does not start where that is not free), and none claims particular cores.
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_HOST_IP": "$(KAJITORI_POD_IP)",
    "GLOO_SOCKET_IFNAME": "lo",
    # The weights are here: nothing is asked of the network.
    "HF_HUB_OFFLINE": "1",
}
_CACHE_SPACE = ("VLLM_CPU_KVCACHE_SPACE", "1")
_CACHE_SPACE_FLAGS = ("--kv-cache-memory-bytes", "--gpu-memory-utilization")

_CACHE_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")
_CONFIGURATIONS = ("config.json", "params.json")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


class VllmAdapter(Adapter, frozen=True):
    """vLLM's OpenAI server, real or simulated."""

    def arguments(self, launch: Launch) -> list[str]:
        return [
            self.executable,
            "serve",
            launch.model,
            *flags(
                [
                    ("--host", launch.host),
                    ("--port", launch.port),
                    ("--served-model-name", launch.served_name),
                    ("--max-model-len", launch.context_tokens),
                    ("--max-num-seqs", launch.parallel_requests),
                    ("--tensor-parallel-size", launch.tensor_parallel if launch.tensor_parallel > 1 else 0),
                    (
                        "--pipeline-parallel-size",
                        launch.pipeline_parallel if launch.pipeline_parallel > 1 else 0,
                    ),
                    ("--api-key", launch.api_key),
                ]
            ),
        ]


ADAPTER = VllmAdapter(
    name="vllm",
    executable="vllm",
    default_port=8000,
    health_path="/health",
    metrics_path="/metrics",
    models_path="/v1/models",
    metrics=METRICS,
    open_paths=("/health", "/metrics", "/ping", "/version"),
)


class Asked(msgspec.Struct, frozen=True):
    """What a container asks for, and what it sees. command, args: with `$(NAME)` replaced. mounts: the folder or file of
    this machine at each mount path."""

    command: Sequence[str] = ()
    args: Sequence[str] = ()
    environment: Mapping[str, str] = {}
    mounts: Mapping[str, str] = {}

    def argv(self, entrypoint: Sequence[str], command: Sequence[str] = ()) -> list[str]:
        """What runs, with what the image would run where the container says nothing."""
        if self.command:
            return [*self.command, *self.args]
        return [*entrypoint, *(self.args or command)]

    def on_machine(self, path: str) -> Path:
        """Where a path of the container lies on this machine."""
        path = os.path.normpath(path)
        folder = path
        while folder not in self.mounts and folder not in ("/", ""):
            folder = os.path.dirname(folder)
        source = self.mounts.get(folder)
        return Path(source, os.path.relpath(path, folder)) if source else Path(path)


class RealVllm(msgspec.Struct, frozen=True):
    """A real vLLM that can serve what was asked for.

    bin_path: the folder of its executables. folders: its virtual environment and what that builds on. weights: where the
    weights lie, empty where they are in a volume. env: what it needs.
    """

    bin_path: str
    folders: list[str]
    weights: str
    env: dict[str, str]


def find_vllm(bin_path: str = "") -> Path | None:
    """The `vllm` executable: in bin_path, by KAJITORI_VLLM, beside this interpreter or on PATH, and nowhere else.

    KAJITORI_VLLM names the executable, its folder, or a virtual environment. Raises MissingDependency where bin_path or
    KAJITORI_VLLM is given and leads to none.
    """
    for source, given in (
        ("bin_path", bin_path),
        (ENVIRONMENT_VARIABLE, os.environ.get(ENVIRONMENT_VARIABLE)),
    ):
        if given:
            place = Path(given).expanduser()
            for candidate in (place, place / "vllm", place / "bin" / "vllm"):
                if _is_executable(candidate):
                    return candidate.absolute()
            raise MissingDependency(
                f"{source} is {given}, and no executable `vllm` is there",
                hint="name the executable, its folder, or the virtual environment that vLLM is installed in",
            )
    beside = Path(sys.executable).with_name("vllm")
    if _is_executable(beside):
        return beside
    found = shutil.which("vllm")
    return Path(found).absolute() if found else None


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def real_vllm(asked: Asked, bin_path: str = "") -> RealVllm | str:
    """A real vLLM for a container that gives a whole command line, or why the simulated one stands in.

    bin_path: from the user's mapping. Raises MissingDependency as `find_vllm` does.
    """
    executable = find_vllm(bin_path)
    if executable is None:
        return f"no vllm is on the PATH of `kaji up`, and {ENVIRONMENT_VARIABLE} names none"
    argv = _words(asked.argv(()), asked.environment)
    model = requested_model(argv)
    if not model:
        return "the command names no model"
    if _value(argv, "--nnodes") not in ("", "1"):
        return "groups of several hosts are simulated"
    weights = local_weights(model, asked)
    if weights is None:
        return f"the weights of {model} are not on this machine"
    environment = dict(_ENVIRONMENT)
    if not any(_has_flag(argv, flag) for flag in _CACHE_SPACE_FLAGS):
        environment.update([_CACHE_SPACE])
    if not any(asked.environment.get(name) for name in _CACHE_VARIABLES):
        environment["HF_HUB_CACHE"] = str(_hub_cache(os.environ))
    # An installed command is a link where it was put on PATH by uv or pipx: the interpreter lies beside its target.
    folder = executable.resolve().parent
    mounted = any(weights.is_relative_to(source) for source in asked.mounts.values())
    return RealVllm(str(folder), _environment_folders(folder), "" if mounted else str(weights), environment)


def _environment_folders(bin_folder: Path) -> list[str]:
    """The virtual environment that a folder of executables belongs to and the installation that it builds on."""
    environment = bin_folder.parent
    if not (environment / "pyvenv.cfg").is_file():
        return [str(bin_folder)]
    base = (environment / "bin" / "python").resolve().parent.parent
    return [str(environment), *([str(base)] if base != Path(base.anchor) else [])]


def local_weights(model: str, asked: Asked | None = None) -> Path | None:
    """The folder of this machine that holds `model`'s weights; None where they would have to be fetched.

    For a model of the Hugging Face cache: the model's folder in it, since a snapshot consists of links into that.
    """
    asked = asked or Asked()
    folder = asked.on_machine(os.path.expanduser(model))
    if folder.is_absolute() and _is_model(folder):
        return folder
    environment = asked.environment
    if not any(environment.get(name) for name in _CACHE_VARIABLES):
        environment = os.environ
    cache = asked.on_machine(str(_hub_cache(environment)))
    cached = cache / f"models--{model.replace('/', '--')}"
    if model.startswith(("/", ".")):
        return None
    return cached if any(_is_model(snapshot) for snapshot in cached.glob("snapshots/*")) else None


def _hub_cache(environment: Mapping[str, str]) -> Path:
    direct = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    if direct:
        return Path(direct).expanduser()
    general = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(environment.get("HF_HOME") or f"{general}/huggingface").expanduser() / "hub"


def _is_model(folder: Path) -> bool:
    # A link of a snapshot whose target was not fetched to its end is no file.
    return any((folder / name).is_file() for name in _CONFIGURATIONS) and any(
        path.is_file() for pattern in _WEIGHTS for path in folder.glob(pattern)
    )


def _words(argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The words of a command line; where a shell runs a text (`sh -c "vllm serve m"`), those of the text too."""
    words: list[str] = []
    for word in argv:
        if not any(character.isspace() for character in word):
            words.append(word)
            continue
        text = string.Template(word.replace("\\\n", " ")).safe_substitute(environment)
        try:
            words += shlex.split(text)
        except ValueError:
            words += text.split()
    return words


def _value(words: Sequence[str], flag: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return ""


def _has_flag(words: Sequence[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in words)


def requested_model(command: Sequence[str]) -> str:
    """The model that a vLLM command line asks for; empty where it names none."""
    if model := _value(command, "--model"):
        return model
    for before, word, following in zip(command, command[1:], command[2:], strict=False):
        if word == "serve" and os.path.basename(before) == "vllm" and not following.startswith("-"):
            return following
    return ""
