"""llama.cpp's own HTTP server as a process: `llama-server` on this machine, from the xllamacpp library.

Takes the flags and LLAMA_ARG_* variables that users write for the container image, refuses the others with the nearest
spelling, and serves on the pod's address where the image would serve on all. A model is a GGUF file or the name of one
whose weights are known (`smollm2-135m`), fetched on first use. On SIGTERM it answers what it has begun and ends.

One thread by default: llama.cpp's threads wait for each other by spinning, so two of them on cores that others use are
several times slower than one. Metrics are always served, since the platform reads them.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.base.errors import KajitoriError, MissingDependency, UsageError
from kajitori.engines.adapter import Adapter, Launch, MetricNames
from kajitori.engines.adapter import flags as flag_list
from kajitori.engines.addresses import POD_ADDRESS_VARIABLE, bind_address
from kajitori.engines.llamacpp_flags import read_arguments
from kajitori.engines.weights import default_cache, ensure_weights, find_weights, line_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kajitori.engines.llamacpp_flags import Settings

METRICS = MetricNames(
    requests_running="llamacpp:requests_processing",
    requests_waiting="llamacpp:requests_deferred",
    prompt_tokens="llamacpp:prompt_tokens_total",
    generation_tokens="llamacpp:tokens_predicted_total",
    prefix_cache_hits="llamacpp:prompt_tokens_cached_total",
)


class LlamaCppAdapter(Adapter, frozen=True):
    """llama.cpp's server."""

    def arguments(self, launch: Launch) -> list[str]:
        parallel = launch.parallel_requests or 4
        return [
            self.executable,
            *flag_list(
                [
                    ("--model", launch.model),
                    ("--alias", launch.served_name),
                    ("--host", launch.host),
                    ("--port", launch.port),
                    # llama.cpp divides its context among its slots.
                    ("--ctx-size", launch.context_tokens * parallel),
                    ("--parallel", parallel),
                    ("--api-key", launch.api_key),
                ]
            ),
        ]


ADAPTER = LlamaCppAdapter(
    name="llama.cpp",
    executable="llama-server",
    default_port=8080,
    health_path="/health",
    metrics_path="/metrics",
    models_path="/v1/models",
    metrics=METRICS,
    open_paths=("/health", "/v1/health"),
)


def model_file(model: str) -> tuple[Path, str]:
    """The GGUF file of a model and the name that it is served under unless an alias is given.

    Raises UsageError for what is neither a file nor a known name, and what fetching raises.
    """
    path = Path(model)
    if path.is_file():
        return path, path.stem
    if model.endswith(".gguf") or model.startswith((".", "/", "~")):
        raise UsageError(f"model file {model} does not exist")
    weights = find_weights(model)
    return ensure_weights(weights.name, default_cache(), line_progress(weights.name)), weights.name


def serve(settings: Settings, environment: Mapping[str, str]) -> int:
    """Load the model, serve until SIGTERM or SIGINT, and end without cutting answers short. Returns the exit code."""
    path, name = model_file(settings.model)
    # Read by OpenMP when the library is loaded; waiting without spinning costs little and spares the other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        xllamacpp = importlib.import_module("xllamacpp")
    except ImportError as error:
        raise MissingDependency(
            f"llama.cpp is not available: {error}", hint="pip install xllamacpp"
        ) from error
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.hostnames = [bind_address(settings.host, environment.get(POD_ADDRESS_VARIABLE, ""))]
    for target, value in settings.assignments.items():
        _assign(parameters, target, value, xllamacpp)
    if not settings.assignments.get("model_alias"):
        parameters.model_alias = {name}
    server = xllamacpp.Server(parameters)
    _log(f"serving {name} at {server.listening_address}")
    signal.sigwait(signals)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    signal.signal(signal.SIGTERM, _leave_at_once)
    signal.signal(signal.SIGINT, _leave_at_once)
    _log("ending: waiting for answers that have begun")
    while _requests(str(server.handle_metrics())) > 0:
        time.sleep(0.05)
    return 0


def _leave_at_once(number: int, frame: object) -> None:
    os._exit(128 + number)


def _requests(metrics: str) -> float:
    """Requests that the server works on or holds back, from its metrics."""
    names = (METRICS.requests_running, METRICS.requests_waiting)
    lines = (line.split() for line in metrics.splitlines())
    return sum(float(words[1]) for words in lines if len(words) == 2 and words[0] in names)


def _assign(parameters: object, target: str, value: object, library: object) -> None:
    head, _, rest = target.partition(".")
    if rest:
        _assign(getattr(parameters, head), rest, value, library)
        return
    if isinstance(value, tuple):
        kind, text = value
        value = _enumerated(library, str(kind), str(text))
    if target == "model_alias" and isinstance(value, list):
        value = set(value)
    if target == "slot_save_path":
        value = str(value).rstrip("/") + "/"
    setattr(parameters, head, value)


_ENUMERATIONS = {
    "cache-type": ("ggml_type", "GGML_TYPE_"),
    "pooling": ("llama_pooling_type", "LLAMA_POOLING_TYPE_"),
    "flash": ("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_"),
}
_FLASH_WORDS = {"on": "enabled", "off": "disabled", "1": "enabled", "0": "disabled"}


def _enumerated(library: object, kind: str, text: str) -> object:
    name, prefix = _ENUMERATIONS[kind]
    enumeration = getattr(library, name)
    word = _FLASH_WORDS.get(text, text) if kind == "flash" else text
    value = getattr(enumeration, prefix + word.upper(), None)
    if value is None:
        known = [
            member.removeprefix(prefix).lower() for member in dir(enumeration) if member.startswith(prefix)
        ]
        raise UsageError(f"{kind} {text!r} is not known", hint=f"one of {', '.join(known)}")
    return value


def _log(text: str) -> None:
    sys.stderr.write(f"llama-server: {text}\n")
    sys.stderr.flush()


def main() -> None:
    """Run llama-server with this process's arguments. Ends the process: the library's threads do not join."""
    try:
        settings = read_arguments(sys.argv[1:], os.environ)
        for note in settings.notes:
            _log(note)
        code = serve(settings, os.environ)
    except KajitoriError as error:
        _log(f"error: {error}")
        code = 2 if isinstance(error, UsageError) else 1
    except RuntimeError as error:
        # The library's own word for a file that is no model, a port that is taken, memory that is short.
        _log(f"error: llama.cpp could not start: {error}")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
