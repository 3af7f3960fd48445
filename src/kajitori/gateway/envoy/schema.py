"""The protobuf schema of an Envoy binary.

The binary carries the serialized `FileDescriptorProto` of every message that it understands; they are read out once for each
binary and kept in a file, so that a start costs milliseconds. Messages made from them are exact for this very version: a package
of generated classes lags behind it.
"""

from __future__ import annotations

import functools
import mmap
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from kajitori.engines.envoy import find_envoy

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_FILE_NAME = re.compile(rb"\n([\x05-\xff])([A-Za-z0-9_/.\-]{5,255}\.proto)(?=[\x12\x1a\x22\x2a])")
# Field number -> wire type of FileDescriptorProto; anything else marks the end of one.
_FILE_FIELDS = {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 8: 2, 9: 2, 10: 0, 11: 0, 12: 2, 14: 0, 15: 2}
_LONGEST_FIELD_BYTES = 2_000_000


def default_cache_folder() -> Path:
    """Where the descriptors are kept: `$XDG_CACHE_HOME/kajitori`, else `~/.cache/kajitori`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kajitori"


class Schema:
    """The message classes of one Envoy binary, by full name such as `envoy.config.cluster.v3.Cluster`.

    A package is understood when the first of its messages is asked for: all of them take 8 MiB, those in use half of that.
    """

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        self._classes: dict[str, type[Message]] = {}
        self._waiting: dict[str, tuple[bytes, list[str]]] = {}
        self._names_by_package: dict[str, list[str]] = {}
        for file in files.file:
            self._waiting[file.name] = file.SerializeToString(), list(file.dependency)
            self._names_by_package.setdefault(file.package, []).append(file.name)

    def descriptor(self, full_name: str) -> Descriptor:
        """Raises KeyError for a name that this Envoy does not know."""
        package = full_name
        while package:
            package = package.rpartition(".")[0]
            for name in self._names_by_package.pop(package, ()):
                self._add(name)
        return self._pool.FindMessageTypeByName(full_name)

    def _add(self, name: str) -> None:
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            for dependency in waiting[1]:
                self._add(dependency)
            self._pool.AddSerializedFile(waiting[0])

    def message(self, full_name: str) -> type[Any]:
        """The class of a message. Its fields are known only at run time, hence `type[Any]`."""
        found = self._classes.get(full_name)
        if found is None:
            found = message_factory.GetMessageClass(self.descriptor(full_name))
            self._classes[full_name] = found
        return found


def read_descriptors(binary: Path) -> descriptor_pb2.FileDescriptorSet:
    """Every FileDescriptorProto that the binary carries, first one of a name wins."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    with binary.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _FILE_NAME.finditer(data):
            if match.group(1)[0] != len(match.group(2)):
                continue
            start = match.start()
            file = descriptor_pb2.FileDescriptorProto()
            try:
                file.ParseFromString(data[start : _end_of_file_descriptor(data, start)])
            except Exception:  # any error means that these bytes were something else
                continue
            files.setdefault(file.name, file)
    return descriptor_pb2.FileDescriptorSet(file=files.values())


def _end_of_file_descriptor(data: mmap.mmap, position: int) -> int:
    named = False
    while True:
        try:
            tag, after = _varint(data, position)
            number, wire_type = tag >> 3, tag & 7
            if _FILE_FIELDS.get(number) != wire_type or (number == 1 and named):
                return position
            named = True
            value, after = _varint(data, after)
        except (IndexError, ValueError):
            return position
        if wire_type == 2:
            if value > _LONGEST_FIELD_BYTES or after + value > len(data):
                return position
            after += value
        position = after


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift <= 35:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("not a varint of 32 bits")


def load_schema(binary: Path | None = None, cache_folder: Path | None = None) -> Schema:
    """The schema of `binary` (default: the installed one), from the cache where it is there."""
    binary = binary or find_envoy()
    folder = cache_folder or default_cache_folder()
    stat = binary.stat()
    cached = folder / f"envoy-{stat.st_size}-{stat.st_mtime_ns}.descriptors"
    files = descriptor_pb2.FileDescriptorSet()
    try:
        files.ParseFromString(cached.read_bytes())
        return Schema(files)
    except Exception:  # absent, unreadable or cut short: made again
        files = read_descriptors(binary)
    try:
        _write_whole(cached, files.SerializeToString())
    except OSError:
        pass  # a cache that cannot be written costs 0.2 s a start, no more
    return Schema(files)


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
    Path(temporary).replace(path)


@functools.cache
def schema() -> Schema:
    """The schema of the installed binary, loaded once a process."""
    return load_schema()
