"""What the Linux kernel offers and Python's standard library lacks: namespaces, mounts, capabilities.

Thin wrappers that raise OSError with the call's name. `find_abilities` tries what this machine allows this user.

Source: the manual pages namespaces(7), mount(2), prctl(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from typing import NamedTuple

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SLAVE = 1 << 19
MS_RELATIME = 1 << 21
_MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36

# The capabilities that container runtimes leave to a container which asks for nothing: chown, dac_override, fowner,
# fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
_KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})

_CLONE_NUMBERS = {"x86_64": 56, "aarch64": 220, "riscv64": 220}

_libc = ctypes.CDLL(None, use_errno=True)
# Calls through this one keep the interpreter's lock, as a fork must.
_libc_with_lock = ctypes.PyDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter_namespace(descriptor: int, kind: int) -> None:
    """setns(2): kind is a CLONE_NEW* constant, 0 for whatever the descriptor is."""
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, filesystem: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). The error names the target."""
    result = _libc.mount(
        source.encode() or None,
        target.encode(),
        filesystem.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, f"mount {source} on {target}")


def bind(source: str, target: str) -> None:
    mount(source, target, flags=MS_BIND | MS_REC)


def unmount(target: str) -> None:
    """Detach; without effect where nothing is mounted."""
    if _libc.umount2(target.encode(), ctypes.c_int(_MNT_DETACH)) < 0 and ctypes.get_errno() not in (
        errno.EINVAL,
        errno.ENOENT,
    ):
        _check(-1, f"umount {target}")


def make_read_only(target: str) -> None:
    """Remount a bind mount read-only, keeping the flags that a user namespace may not clear."""
    flags = os.statvfs(target).f_flag
    kept = 0
    for mask, flag in (
        (os.ST_NOSUID, MS_NOSUID),
        (os.ST_NODEV, MS_NODEV),
        (os.ST_NOEXEC, MS_NOEXEC),
        (os.ST_NOATIME, MS_NOATIME),
        (os.ST_NODIRATIME, MS_NODIRATIME),
        (os.ST_RELATIME, MS_RELATIME),
    ):
        if flags & mask:
            kept |= flag
    mount("none", target, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """The kernel sends this signal to the calling process when the process that forked it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of the calling process instead of init's."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "prctl")


def drop_capabilities() -> None:
    """Take away what a container has no business with; effective at the next exec. Root only, else without effect."""
    for capability in range(64):
        if (
            capability not in _KEPT_CAPABILITIES
            and _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0
        ):
            return  # beyond the last one that this kernel knows, or not allowed


def fork_into(flags: int) -> int:
    """fork(2) with namespaces of its own for the child: 0 in the child, its process id in the caller.

    Unlike unshare(2) of process ids this leaves the caller where it is, also where it may not return to. Only for a
    process with a single thread.
    """
    if not flags:
        return os.fork()
    number = _CLONE_NUMBERS[os.uname().machine]
    ctypes.pythonapi.PyOS_BeforeFork()
    arguments = (ctypes.c_ulong(flags | signal.SIGCHLD), None, None, None, None)
    pid = int(_libc_with_lock.syscall(ctypes.c_long(number), *arguments))
    error = ctypes.get_errno()
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, f"clone: {os.strerror(error)}")
    return pid


class Abilities(NamedTuple):
    """What containers get here.

    namespaces: own mounts, process ids and hostname. user_namespace: they come through a user namespace, since we are
    not root. message: why not, where not.
    """

    namespaces: bool
    user_namespace: bool = False
    message: str = ""


def enter_user_namespace() -> None:
    """Become privileged towards namespaces of our own, under our own user and group id."""
    user, group = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def find_abilities(scratch: str, *, forbid: bool = False) -> Abilities:
    """Try, in children that end at once, what this machine allows. scratch: a folder to try a mount on.

    forbid: answer as a machine without namespaces would; for tests and for those who want it.
    """
    if forbid:
        return Abilities(namespaces=False, message="namespaces are switched off by KAJITORI_NO_NAMESPACES")
    if os.uname().machine not in _CLONE_NUMBERS:
        return Abilities(namespaces=False, message=f"not known how to fork on {os.uname().machine}")
    first = _attempt(scratch, user_namespace=False)
    if not first:
        return Abilities(namespaces=True)
    second = _attempt(scratch, user_namespace=True)
    if not second:
        return Abilities(namespaces=True, user_namespace=True)
    return Abilities(namespaces=False, message=f"this machine allows no user namespaces ({second})")


def _attempt(scratch: str, *, user_namespace: bool) -> str:
    """Empty if containers can be isolated this way, else the error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if user_namespace:
                enter_user_namespace()
            child = fork_into(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID)
            if child:
                os.waitpid(child, 0)
            else:
                mount("none", "/", flags=MS_REC | MS_SLAVE)
                mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k")
        except OSError as error:
            os.write(writer, str(error.strerror).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        message = file.read().decode()
    os.waitpid(pid, 0)
    return message
