"""The files of configMap, secret, downwardAPI and projected volumes: what they hold, and how they are replaced.

A volume's folder holds `..data`, a link to a folder with a time in its name, and one link into `..data` for each
file. An update writes a new folder and swaps the one link, so a reader sees all of the old or all of the new.

Source: Kubernetes documentation, "Projected Volumes", "ConfigMaps: mounted ConfigMaps are updated automatically".
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kajitori.api.kubernetes.core_v1 import (
    DownwardAPIVolumeFile,
    KeyToPath,
    ServiceAccountTokenProjection,
    Volume,
)
from kajitori.laptop.node.environment import PodFacts, field_value, resource_value
from kajitori.laptop.node.references import MissingSource, Reference, Sources

DEFAULT_MODE = 0o644


class File(NamedTuple):
    content: bytes
    mode: int


Payload = dict[str, File]
# By the path that the projection names: a token for it.
Tokens = Mapping[str, str]


def token_projections(volume: Volume) -> list[ServiceAccountTokenProjection]:
    sources = volume.projected.sources if volume.projected else ()
    return [source.service_account_token for source in sources if source.service_account_token]


def volume_payload(volume: Volume, facts: PodFacts, sources: Sources, tokens: Tokens) -> Payload | None:
    """The files of a volume of these kinds, None for any other. Raises MissingSource."""
    if volume.config_map:
        source = volume.config_map
        mode = _mode(source.default_mode)
        return _selected(Reference("configmap", source.name), source.items, source.optional, mode, sources)
    if volume.secret:
        secret = volume.secret
        mode = _mode(secret.default_mode)
        reference = Reference("secret", secret.secret_name or "")
        return _selected(reference, secret.items, secret.optional, mode, sources)
    if volume.downward_api:
        return _downward(volume.downward_api.items, _mode(volume.downward_api.default_mode), facts)
    if volume.projected:
        return _projected(volume, facts, sources, tokens)
    return None


def _projected(volume: Volume, facts: PodFacts, sources: Sources, tokens: Tokens) -> Payload:
    projected = volume.projected
    assert projected is not None
    mode = _mode(projected.default_mode)
    files: Payload = {}
    for source in projected.sources:
        if source.config_map:
            chosen = source.config_map
            reference = Reference("configmap", chosen.name)
            files |= _selected(reference, chosen.items, chosen.optional, mode, sources)
        elif source.secret:
            chosen = source.secret
            reference = Reference("secret", chosen.name)
            files |= _selected(reference, chosen.items, chosen.optional, mode, sources)
        elif source.downward_api:
            files |= _downward(source.downward_api.items, mode, facts)
        elif source.service_account_token:
            path = source.service_account_token.path
            # A token is nobody else's: not for the group, whatever the volume's mode.
            files[path] = File(tokens[path].encode(), mode & 0o600)
        else:
            raise MissingSource(
                "a projected source other than configMap, secret, downwardAPI and serviceAccountToken is not honoured"
            )
    return files


def _mode(given: int | None) -> int:
    return DEFAULT_MODE if given is None else given & 0o777


def _selected(
    reference: Reference, items: Sequence[KeyToPath], optional: bool | None, mode: int, sources: Sources
) -> Payload:
    values = sources.get(reference)
    if values is None:
        if optional:
            return {}
        raise MissingSource(f'{reference.kind} "{reference.name}" not found')
    if not items:
        return {key: File(value, mode) for key, value in values.items()}
    files: Payload = {}
    for item in items:
        if item.key in values:
            files[item.path] = File(values[item.key], mode if item.mode is None else item.mode & 0o777)
        elif not optional:
            raise MissingSource(f'{reference.kind} "{reference.name}" has no key {item.key}')
    return files


def _downward(items: Sequence[DownwardAPIVolumeFile], mode: int, facts: PodFacts) -> Payload:
    files: Payload = {}
    for item in items:
        if item.field_ref:
            text = field_value(item.field_ref, facts)
        elif item.resource_field_ref:
            text = resource_value(item.resource_field_ref, None, facts)
        else:
            text = ""
        files[item.path] = File(text.encode(), mode if item.mode is None else item.mode & 0o777)
    return files


def write_payload(folder: Path, files: Payload) -> bool:
    """Make the folder hold exactly these files; whether anything changed. Raises MissingSource for a path outside."""
    for path in files:
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "" in parts or parts[0].startswith(".."):
            raise MissingSource(f"path {path!r} of a volume must be relative and inside it")
    folder.mkdir(parents=True, exist_ok=True)
    if _read_payload(folder) == files:
        return False
    data = folder / "..data"
    old = os.readlink(data) if data.is_symlink() else ""
    new = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    new.chmod(0o755)
    for path, file in files.items():
        target = new / path
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(file.content)
            os.fchmod(descriptor, file.mode)
    scratch = folder / "..data_new"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(new.name)
    scratch.replace(data)
    _link_entries(folder, {path.partition("/")[0] for path in files})
    if old:
        shutil.rmtree(folder / old, ignore_errors=True)
    return True


def _link_entries(folder: Path, wanted: set[str]) -> None:
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    for name in wanted:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}")


def _read_payload(folder: Path) -> Payload | None:
    data = folder / "..data"
    if not data.is_symlink():
        return None
    files: Payload = {}
    try:
        for base, _, names in os.walk(data.resolve()):
            for name in names:
                path = Path(base) / name
                files[str(path.relative_to(data.resolve()))] = File(
                    path.read_bytes(), path.stat().st_mode & 0o777
                )
    except OSError:
        return None
    return files
