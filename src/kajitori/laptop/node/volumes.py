"""A pod's volumes as folders of this machine, and the mounts of each container.

    nodes/<node>/pods/<uid>/_volumes/<volume>   emptyDir, configMap, secret, downwardAPI, projected
    volumes/<namespace>/<claim's uid>           claims, shared by all nodes

hostPath volumes are what they say. Other kinds are refused by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kajitori.api.kubernetes.core_v1 import Container, HostPathVolumeSource, Volume
from kajitori.base.errors import KajitoriError
from kajitori.laptop.node.environment import expand
from kajitori.laptop.node.runtime.mounts import Mount

SUPPORTED = "emptyDir, configMap, secret, downwardAPI, projected, hostPath, persistentVolumeClaim, ephemeral"


class VolumeError(KajitoriError):
    """A volume that cannot be set up as things are; trying again may help."""


class Place(NamedTuple):
    """Where a volume lies. read_only: for every container."""

    path: Path
    read_only: bool = False


def volume_folder(pod_folder: Path, volume: Volume) -> Path:
    """The folder of a volume that lives with the pod."""
    return pod_folder / "_volumes" / volume.name


def set_up_folder(pod_folder: Path, volume: Volume) -> Place | None:
    """Volumes that need nothing but this machine; None for the others. Raises VolumeError."""
    if volume.host_path:
        return Place(_host_path(volume.host_path))
    if volume.empty_dir is not None or volume.ephemeral is not None:
        folder = volume_folder(pod_folder, volume)
        folder.mkdir(parents=True, exist_ok=True)
        # As a kubelet does: containers may run as any user.
        folder.chmod(0o777)
        return Place(folder)
    return None


def unsupported(volume: Volume) -> VolumeError:
    """The error for a kind of volume that is not honoured, with its name."""
    known = [
        field.removesuffix("_")
        for field in volume.__struct_fields__
        if field != "name" and getattr(volume, field) is not None
    ]
    kind = known[0] if known else "no source"
    return VolumeError(
        f'volume "{volume.name}" ({kind}) is of a kind that these nodes do not have', hint=f"use {SUPPORTED}"
    )


_TYPE_CHECKS = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def _host_path(source: HostPathVolumeSource) -> Path:
    path = Path(source.path)
    kind = source.type or ""
    try:
        if kind == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            path.touch(mode=0o644, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise VolumeError(f"hostPath {source.path}: {(error.strerror or str(error)).lower()}") from error
    check, wanted = _TYPE_CHECKS.get(kind.removesuffix("OrCreate"), (None, ""))
    if check and not check(mode):
        raise VolumeError(f"hostPath {source.path} is not {wanted}", hint="see the volume's hostPath.type")
    return path


def container_mounts(
    container: Container, places: Mapping[str, Place], environment: Mapping[str, str]
) -> list[Mount]:
    """What to bind where for a container. Makes sub-paths that are missing. Raises VolumeError."""
    mounts: list[Mount] = []
    for mount in container.volume_mounts:
        place = places.get(mount.name)
        if place is None:
            raise VolumeError(f'volumeMount "{mount.name}" names no volume of the pod')
        sub_path = mount.sub_path or ""
        if mount.sub_path_expr:
            sub_path = expand(mount.sub_path_expr, environment)
            if "$(" in sub_path:
                raise VolumeError(f"subPathExpr {mount.sub_path_expr}: a variable in it is not defined")
        source = _sub_path(place, sub_path) if sub_path else place.path
        target = mount.mount_path if mount.mount_path.startswith("/") else f"/{mount.mount_path}"
        mounts.append(
            Mount(
                source=str(source),
                target=os.path.normpath(target),
                read_only=bool(mount.read_only) or place.read_only,
            )
        )
    return mounts


def _sub_path(place: Place, sub_path: str) -> Path:
    if sub_path.startswith("/") or ".." in sub_path.split("/"):
        raise VolumeError(f"subPath {sub_path!r} must be relative and inside its volume")
    root = place.path.resolve()
    path = (root / sub_path).resolve()
    if path != root and root not in path.parents:
        raise VolumeError(f"subPath {sub_path!r} leads out of its volume through a link")
    if not path.exists():
        if place.read_only:
            raise VolumeError(f"subPath {sub_path!r} does not exist in its volume")
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
    return path
