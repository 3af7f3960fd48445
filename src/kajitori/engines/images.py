"""Which local program stands for a container image.

The registry is data: `images.yaml` beside this module, and the user's own file of the same form, which is asked
first. What comes out is a `Program` that a node can start, or a `Reason` that says why there is none and what to
write where. An image without a mapping is never replaced in silence.
"""

from __future__ import annotations

import fnmatch
import re
from functools import cache as cached
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from kajitori.base.errors import InvalidManifest, MissingDependency
from kajitori.base.reason import Reason
from kajitori.engines import programs, vllm
from kajitori.engines.weights import borrow_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_CACHE = Path("~/.kaji/cache")
DEFAULT_MAPPINGS_PATH = "~/.kaji/images.yaml"

SIMULATED_NOTICE = "vLLM is simulated: it answers placeholder text at the pace that a performance model gives for this model and GPU"


class Program(msgspec.Struct, frozen=True):
    """A program that stands for an image.

    name: the image without tag and digest. engine: which adapter, such as `simulated-vllm` or `shell`.
    simulated: True where answers are made up; the pod's status must say so. bin_path: folder to put first on PATH,
    empty for none. entrypoint, command: what runs where the container gives no command or args, as ENTRYPOINT and CMD
    of an image. env: variables that the program needs; `$(KAJITORI_POD_IP)` in a value is the pod's address. notice: a
    sentence for the pod's status, may be empty. folders, weights: places of this machine that the program needs to see,
    though they lie where containers see places of their own; weights is the one that the container's user named.

    A container's command may be an absolute path of the image, such as /app/llama-server: where that does not exist
    on this machine, its last part is to be looked up in bin_path.
    """

    name: str
    engine: str
    simulated: bool = False
    bin_path: str = ""
    entrypoint: list[str] = msgspec.field(default_factory=list)
    command: list[str] = msgspec.field(default_factory=list)
    env: dict[str, str] = msgspec.field(default_factory=dict)
    notice: str = ""
    folders: list[str] = msgspec.field(default_factory=list)
    weights: str = ""


class ImageMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of images.yaml; the file beside this module explains the fields."""

    match: str
    engine: str = "shell"
    bin_path: str = ""
    entrypoint: list[str] = msgspec.field(default_factory=list)
    command: list[str] = msgspec.field(default_factory=list)
    env: dict[str, str] = msgspec.field(default_factory=dict)
    refused: str = ""


class _MappingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    images: list[ImageMapping] = msgspec.field(default_factory=list)


class ImageName(msgspec.Struct, frozen=True):
    """A parsed reference: `docker.io/library/python`, `3.11`, `sha256:...`."""

    repository: str
    tag: str = ""
    digest: str = ""


_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?"
    r"(?:@(?P<digest>[A-Za-z][\w+.-]*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)


def parse_image(image: str) -> ImageName | None:
    """The parts of an image reference with `docker.io/library/` filled in; None where it is not one."""
    match = _REFERENCE.fullmatch(image)
    if match is None:
        return None
    repository = _with_registry(match["name"])
    path = repository.partition("/")[2]
    if path != path.lower():
        return None
    return ImageName(repository, match["tag"] or "", match["digest"] or "")


def _with_registry(name: str) -> str:
    host, slash, rest = name.partition("/")
    if host == "*" or (slash and ("." in host or ":" in host or host == "localhost")):
        return f"docker.io/{rest}" if host == "index.docker.io" else name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def matches(pattern: str, image: ImageName) -> bool:
    """Whether a pattern of images.yaml means this image. A tag in the pattern has to match `latest` when none is given."""
    pattern = pattern.partition("@")[0]
    head, slash, last = pattern.rpartition("/")
    last, colon, tag = last.partition(":")
    if not fnmatch.fnmatchcase(image.repository, _with_registry(head + slash + last)):
        return False
    return not colon or fnmatch.fnmatchcase(image.tag or "latest", tag)


def read_user_mappings(path: Path) -> dict[str, Any]:
    """The user's images.yaml as it stands; empty where there is none. Raises InvalidManifest with line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidManifest(f"not YAML: {' '.join(str(error).split())}", where=str(path)) from error
    if document is not None and not isinstance(document, dict):
        raise InvalidManifest("expected a mapping with the key `images`", where=str(path))
    return document or {}


def find_program(
    image: str,
    user_mappings: Mapping[str, Any],
    *,
    asked: vllm.Asked | None = None,
    cache: Path | None = None,
    mappings_path: str = DEFAULT_MAPPINGS_PATH,
) -> Program | Reason:
    """The program for an image, or why there is none.

    user_mappings: what `read_user_mappings` gave. asked: what the container asks for and sees, which decides whether
    the weights that vLLM shall serve are here. cache: where folders of executables are made and weights are
    kept. mappings_path: named in hints.

    Reasons: `InvalidImageName`, `ImageNotMapped`, `InvalidImageMapping`, `ProgramMissing`.
    """
    name = parse_image(image)
    if name is None:
        return Reason(
            "InvalidImageName",
            f"image {image!r} is not a valid reference",
            hint="write [registry/]name[:tag], in lower case",
        )
    try:
        users = msgspec.convert(dict(user_mappings), _MappingFile).images
    except msgspec.ValidationError as error:
        return Reason("InvalidImageMapping", f"{mappings_path}: {error}", hint=_example(name, mappings_path))
    for mapping in (*users, *_builtin_mappings()):
        if matches(mapping.match, name):
            return _program(
                name, mapping, asked or vllm.Asked(), (cache or DEFAULT_CACHE).expanduser(), mappings_path
            )
    return Reason(
        "ImageNotMapped",
        f"no local program is known for image {name.repository}",
        hint=_example(name, mappings_path),
    )


@cached
def _builtin_mappings() -> tuple[ImageMapping, ...]:
    # A node without pods does without the library.
    import yaml

    text = Path(__file__).with_name("images.yaml").read_text(encoding="utf-8")
    return tuple(msgspec.convert(yaml.safe_load(text), _MappingFile).images)


def _example(name: ImageName, mappings_path: str) -> str:
    line = f'images: [{{match: "{name.repository}", engine: shell, entrypoint: [/path/of/program]}}]'
    return f"write into {mappings_path}: {line}; engines: {', '.join(programs.ENGINES)}"


def _program(
    name: ImageName, mapping: ImageMapping, asked: vllm.Asked, cache: Path, mappings_path: str
) -> Program | Reason:
    if mapping.refused:
        return Reason(
            "ImageNotMapped",
            f"image {name.repository}: {mapping.refused}",
            hint=_example(name, mappings_path),
        )
    if mapping.engine not in programs.ENGINES:
        return Reason(
            "InvalidImageMapping",
            f"{mappings_path}: unknown engine {mapping.engine!r} for {mapping.match}",
            hint=f"one of {', '.join(programs.ENGINES)}",
        )
    program = Program(
        name=name.repository,
        engine=mapping.engine,
        bin_path=mapping.bin_path,
        entrypoint=mapping.entrypoint,
        command=mapping.command,
        env=mapping.env,
    )
    try:
        if mapping.engine == "vllm":
            return _vllm(program, asked, cache)
        return _started(program, cache)
    except MissingDependency as error:
        return Reason("ProgramMissing", f"image {name.repository}: {error.message}", hint=error.hint)


def _started(program: Program, cache: Path) -> Program:
    simulated = program.engine == "simulated-vllm"
    if program.engine == "llama.cpp":
        # A container sees no other cache than this one.
        borrow_weights(cache)
    env = {"KAJITORI_CACHE": str(cache)} if program.engine == "llama.cpp" else {}
    return replace(
        program,
        simulated=simulated,
        bin_path=program.bin_path or programs.bin_folder(program.engine, cache),
        env={**env, **program.env},
        notice=SIMULATED_NOTICE if simulated else "",
    )


def _vllm(program: Program, asked: vllm.Asked, cache: Path) -> Program:
    real = vllm.real_vllm(
        replace(
            asked,
            command=asked.argv(program.entrypoint, program.command),
            args=(),
            environment={**program.env, **asked.environment},
        ),
        program.bin_path,
    )
    if isinstance(real, str):
        simulated = _started(replace(program, engine="simulated-vllm", bin_path=""), cache)
        return replace(simulated, notice=f"{SIMULATED_NOTICE} ({real})")
    return replace(
        program,
        bin_path=real.bin_path,
        env={**real.env, **program.env},
        folders=real.folders,
        weights=real.weights,
    )
