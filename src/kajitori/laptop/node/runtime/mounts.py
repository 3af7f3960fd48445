"""The file system that a container sees: this machine's, with a few places of its own.

A container gets its own `/dev`, `/tmp` and `/proc`, does not see the cluster's home, and finds its volumes at their
mount paths. A mount path that does not exist on this machine is never created there. Its nearest existing parent
is covered by an equivalent of the container's own, in which the path can be made:

- a *forest*: a folder in the container's scratch tmpfs into which each entry of the parent is bound, or
- where there are too many entries for that, an overlay whose changes go to the scratch tmpfs.

All of it lives in the mount namespace of the container and vanishes with it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TypedDict

from kajitori.laptop.node.runtime import kernel

# Above this many entries an overlay is cheaper than one mount each.
FOREST_ENTRIES = 96
SCRATCH_OPTIONS = "size=64m,mode=755"

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "pts", "mqueue", "fuse", "dri", "kfd")
_DEVICE_PREFIXES = ("nvidia",)
_DEVICE_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)


class Mount(TypedDict):
    """source: a file or folder of this machine. target: where the container sees it."""

    source: str
    target: str
    read_only: bool


class FileSystem(TypedDict):
    """What a container sees.

    scratch: an existing folder, covered by a tmpfs in the container's namespace. hidden: a folder not to be seen (the
    cluster's home). exposed: folders to be seen though they lie in what is hidden or in /tmp. temporary: the
    container's own /tmp. folders: folders to exist, such as the working directory.
    """

    scratch: str
    hidden: str
    exposed: list[str]
    temporary: str
    folders: list[str]
    mounts: list[Mount]


class View:
    """Builds the view; the calling process must be alone in its mount namespace, and stays in the view."""

    def __init__(self, scratch: str) -> None:
        kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
        kernel.mount("tmpfs", scratch, "tmpfs", kernel.MS_NOSUID, SCRATCH_OPTIONS)
        # Paths through descriptors stay valid whatever gets covered later.
        self._scratch = _reference(scratch)
        self._own_devices = {os.stat(self._scratch).st_dev}
        self._own_folders: list[str] = []
        self._exposed: list[str] = []
        self._covers = 0

    def build(self, files: FileSystem) -> None:
        sources = [_reference(mount["source"]) for mount in files["mounts"]]
        exposed = {path: _reference(path) for path in files["exposed"] if os.path.exists(path)}
        temporary = _reference(files["temporary"]) if files["temporary"] else ""
        self._make_devices()
        hidden = [files["hidden"]] if files["hidden"] else []
        if temporary:
            kernel.bind(temporary, "/tmp")
            self._own_folders.append("/tmp")
        for path in hidden:
            if os.path.isdir(path):
                kernel.bind(self._new_folder(), path)
        for path, reference in exposed.items():
            if _within(path, "/tmp") or any(_within(path, parent) for parent in hidden):
                kernel.bind(reference, self.ensure(path, folder=os.path.isdir(reference)))
                self._exposed.append(path)
        for folder in files["folders"]:
            self.ensure(folder, folder=True)
        order = sorted(
            zip(files["mounts"], sources, strict=True), key=lambda pair: pair[0]["target"].count("/")
        )
        # All covers first: one that is made later would hide what was mounted below it.
        for mount, source in order:
            self.ensure(mount["target"], folder=os.path.isdir(source))
        for mount, source in order:
            folder = os.path.isdir(source)
            target = self.ensure(mount["target"], folder=folder)
            kernel.bind(source, target)
            if mount["read_only"]:
                kernel.make_read_only(target)
            elif folder:
                self._own_folders.append(target)
        self._expose_again([mount["target"] for mount, _ in order], exposed)

    def _expose_again(self, targets: list[str], exposed: dict[str, str]) -> None:
        """A volume mounted over a parent of what the program needs, such as /tmp, shall not take that away."""
        for path, reference in exposed.items():
            if any(_within(path, target) and path != target for target in targets):
                kernel.bind(reference, self.ensure(path, folder=os.path.isdir(reference)))
                self._exposed.append(path)

    def ensure(self, target: str, *, folder: bool) -> str:
        """The real path of target, made in a place of the container's own where it is missing."""
        real = os.path.realpath(target)
        if os.path.lexists(real):
            if os.path.isdir(real) != folder:
                raise NotADirectoryError(20, f"{target} exists and is not a {'folder' if folder else 'file'}")
            return real
        parent = os.path.dirname(real)
        ancestor = parent
        while not os.path.lexists(ancestor):
            ancestor = os.path.dirname(ancestor)
        if not os.path.isdir(ancestor):
            raise NotADirectoryError(20, f"{ancestor} is not a folder, so {target} cannot be mounted")
        if not self._is_own(ancestor):
            self._cover(ancestor)
        os.makedirs(real if folder else parent, exist_ok=True)
        if not folder:
            _touch(real)
        return real

    def _is_own(self, folder: str) -> bool:
        if os.stat(folder).st_dev in self._own_devices:
            return True
        # Folders inside a writable volume are made in the volume, as a kubelet does.
        return any(_within(folder, own) for own in self._own_folders) and not any(
            _within(folder, exposed) for exposed in self._exposed
        )

    def _new_folder(self) -> str:
        self._covers += 1
        path = f"{self._scratch}/{self._covers}"
        os.mkdir(path)
        return path

    def _cover(self, folder: str) -> None:
        names = os.listdir(folder)
        if folder != "/" and len(names) > FOREST_ENTRIES and self._overlay(folder):
            return
        cover = self._new_folder()
        os.chmod(cover, stat.S_IMODE(os.stat(folder).st_mode))
        for name in names:
            # An entry that has gone, or that may not be bound, is left out.
            with contextlib.suppress(OSError):
                _plant(os.path.join(folder, name), f"{cover}/{name}")
        kernel.bind(cover, cover)
        if folder == "/":
            os.chdir(cover)
            kernel.mount(".", "/", flags=kernel.MS_MOVE)
            os.chroot(".")
            os.chdir("/")
        else:
            kernel.bind(cover, folder)

    def _overlay(self, folder: str) -> bool:
        base = self._new_folder()
        upper, work = f"{base}/upper", f"{base}/work"
        os.mkdir(upper)
        os.mkdir(work)
        os.chmod(upper, stat.S_IMODE(os.stat(folder).st_mode))
        if any(character in folder for character in ",:\\"):
            return False
        # An overlay shows what lies under the machine's own mounts, such as a resolv.conf: they are bound again.
        beneath = [(path, _reference(path)) for path in _mounts_below(folder)]
        for extra in ("", ",userxattr"):
            try:
                kernel.mount(
                    "overlay",
                    folder,
                    "overlay",
                    options=f"lowerdir={folder},upperdir={upper},workdir={work}{extra}",
                )
            except OSError:
                continue
            self._own_devices.add(os.stat(folder).st_dev)
            for path, reference in beneath:
                with contextlib.suppress(OSError):
                    kernel.bind(reference, path)
            return True
        return False

    def _make_devices(self) -> None:
        devices = self._new_folder()
        for name in os.listdir("/dev"):
            if name in _DEVICES or name.startswith(_DEVICE_PREFIXES):
                with contextlib.suppress(OSError):
                    _plant(f"/dev/{name}", f"{devices}/{name}")
        for name, target in _DEVICE_LINKS:
            os.symlink(target, f"{devices}/{name}")
        os.mkdir(f"{devices}/shm")
        kernel.mount("tmpfs", f"{devices}/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
        kernel.bind(devices, "/dev")


def mount_processes() -> None:
    """Show the container's own process ids; where that is not allowed, those of the machine stay visible."""
    with contextlib.suppress(OSError):
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def _reference(path: str) -> str:
    """A path that keeps naming the same file or folder after its own path is covered."""
    return f"/proc/self/fd/{os.open(path, os.O_PATH | os.O_CLOEXEC)}"


def _mounts_below(folder: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = {line.split()[4].replace("\\040", " ") for line in file}
    return sorted(
        point for point in points if point != folder and _within(point, folder) and os.path.exists(point)
    )


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _plant(source: str, target: str) -> None:
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
        return
    if stat.S_ISDIR(mode):
        os.mkdir(target)
    else:
        _touch(target)
    kernel.bind(source, target)
