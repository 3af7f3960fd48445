"""Fork a container: an init process that prepares what it sees, starts its command, reaps, and ends with it.

    runner ── init (process 1 of the container's namespaces) ── command ── ...
                                                             └─ orphans of the command

The init exists so that a command which handles no signals still ends by SIGTERM, and so that orphans are
reaped. It ends with its command's exit code (128 + n after signal n), and the kernel then kills whatever else is in
the container. Where namespaces are not allowed, the init adopts orphans and kills them itself.

Before the command runs, errors travel through the `status` pipe as text; its end without text says that it runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import select
import signal
import socket
import termios
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TypedDict

from kajitori.laptop.node.runtime import kernel, mounts

# To the init of a container without namespaces: kill everything, then end.
KILL_EVERYTHING = signal.SIGPWR
START_FAILED = 128

_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
    signal.SIGALRM,
)


class Command(TypedDict):
    """What to run: argv with a program looked up in the environment's PATH, and where.

    programs: a folder in which the last part of an absolute command is looked up where that path does not exist.
    """

    argv: list[str]
    environment: dict[str, str]
    folder: str
    programs: str


class Streams(NamedTuple):
    """Descriptors for the command's standard streams; terminal: they are a terminal to be its controlling one."""

    stdin: int
    stdout: int
    stderr: int
    terminal: bool = False


class Sandbox(TypedDict):
    """What is around the command.

    privileged: keep all capabilities. init: path of the small init program, empty where there is none.
    """

    hostname: str
    privileged: bool
    init: str
    files: mounts.FileSystem


def fork_container(
    command: Command,
    sandbox: Sandbox,
    streams: Streams,
    *,
    status: int,
    alive: int,
    isolated: bool,
    beside: int = 0,
) -> int:
    """Fork the init; its process id.

    status: pipe for an error. alive: read end of a pipe whose write end only the runner holds. isolated: with
    namespaces. beside: the init of another container, among whose processes this one runs; 0 for its own.
    """
    guest = isolated and beside > 0
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS if isolated else 0
    pid = kernel.fork_into(flags if guest or not isolated else flags | kernel.CLONE_NEWPID)
    if pid == 0:
        _run_child(
            status,
            lambda kept: (
                _guest(command, sandbox, kept, beside) if guest else _init(command, sandbox, kept, isolated)
            ),
            [streams.stdin, streams.stdout, streams.stderr, status, alive],
            terminal=streams.terminal,
        )
    return pid


def fork_in_container(
    command: Command,
    init: int,
    streams: Streams,
    *,
    status: int,
    alive: int,
    isolated: bool,
    privileged: bool,
) -> int:
    """Run one more command in the container whose init this is; process id of a relay that ends with its exit code.

    SIGTERM to the relay kills the command and its process group.
    """
    pid = os.fork()
    if pid == 0:
        _run_child(
            status,
            lambda kept: _relay(command, init, kept, isolated, privileged),
            [streams.stdin, streams.stdout, streams.stderr, status, alive],
            terminal=streams.terminal,
        )
    return pid


class _Kept(NamedTuple):
    """The descriptors of a forked child, at the numbers 0 to 4."""

    terminal: bool
    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    status: int = 3
    alive: int = 4


def _run_child(
    status: int, body: Callable[[_Kept], int], descriptors: list[int], *, terminal: bool
) -> NoReturn:
    """Everything after a fork: never returns, never raises."""
    code = START_FAILED
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        kept = _keep(descriptors, terminal)
        status = kept.status
        code = body(kept)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(status, _describe(error).encode())
    finally:
        os._exit(code)


def _keep(descriptors: list[int], terminal: bool) -> _Kept:
    """Move the descriptors to 0..4 and close all others, which belong to other containers."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 16) for descriptor in descriptors]
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number, inheritable=number < 3)
    os.closerange(len(high), _highest_descriptor())
    return _Kept(terminal)


def _highest_descriptor() -> int:
    return 1 + max((int(name) for name in os.listdir("/proc/self/fd")), default=1024)


class _NotStartable(Exception):
    """Why a command cannot start, in words for its user."""


def _describe(error: BaseException) -> str:
    if isinstance(error, _NotStartable):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tie_to_runner(kept: _Kept, signal_number: int) -> None:
    kernel.die_with_parent(signal_number)
    poll = select.poll()
    poll.register(kept.alive, select.POLLIN)
    if poll.poll(0):  # the runner died before the request above
        os._exit(START_FAILED)
    os.close(kept.alive)


def _init(command: Command, sandbox: Sandbox, kept: _Kept, isolated: bool) -> int:
    _tie_to_runner(kept, signal.SIGKILL if isolated else KILL_EVERYTHING)
    os.setsid()
    # Opened before the view changes, and executed by its descriptor.
    program = os.open(sandbox["init"], os.O_RDONLY | os.O_CLOEXEC) if sandbox["init"] else -1
    if isolated:
        socket.sethostname(sandbox["hostname"])
        mounts.View(sandbox["files"]["scratch"]).build(sandbox["files"])
        mounts.mount_processes()
    else:
        kernel.adopt_orphans()
    # No signal may arrive between here and its handler: the kernel would drop it.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        _execute(command, kept, privileged=sandbox["privileged"], pdeath=not isolated)
    if program >= 0:
        with contextlib.suppress(OSError):
            os.execve(program, ["init", str(child), "0" if isolated else str(int(KILL_EVERYTHING))], {})
    return _attend(child, kept, isolated)


def _guest(command: Command, sandbox: Sandbox, kept: _Kept, beside: int) -> int:
    """A container that sees and may signal the processes of another one; this process stays outside of those."""
    _tie_to_runner(kept, signal.SIGKILL)
    os.setsid()
    descriptor = os.open(f"/proc/{beside}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    kernel.enter_namespace(descriptor, kernel.CLONE_NEWPID)
    os.close(descriptor)
    socket.sethostname(sandbox["hostname"])
    mounts.View(sandbox["files"]["scratch"]).build(sandbox["files"])
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        mounts.mount_processes()
        _execute(command, kept, privileged=sandbox["privileged"], pdeath=True)
    return _attend(child, kept, isolated=True)


def _attend(child: int, kept: _Kept, isolated: bool) -> int:
    """The init's work in Python, where the small program is missing."""

    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    if not isolated:
        signal.signal(KILL_EVERYTHING, lambda number, frame: _kill_descendants())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    _release_streams(kept)
    code = _wait_for(child)
    if not isolated:
        _kill_descendants()
    return code


def _relay(command: Command, init: int, kept: _Kept, isolated: bool, privileged: bool) -> int:
    _tie_to_runner(kept, signal.SIGTERM)
    if isolated:
        for name, kind in (
            ("pid", kernel.CLONE_NEWPID),
            ("uts", kernel.CLONE_NEWUTS),
            ("mnt", kernel.CLONE_NEWNS),
        ):
            descriptor = os.open(f"/proc/{init}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            kernel.enter_namespace(descriptor, kind)
            os.close(descriptor)
    child = os.fork()
    if child == 0:
        _execute(command, kept, privileged=privileged, pdeath=True)

    def kill(_: int, __: object) -> None:
        for victim in (-child, child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    signal.signal(signal.SIGTERM, kill)
    _release_streams(kept)
    return _wait_for(child)


def _release_streams(kept: _Kept) -> None:
    """Let the command alone hold its streams, so that their readers see the end."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in (kept.stdin, kept.stdout, kept.stderr):
        os.dup2(null, number)
    os.close(kept.status)


def _wait_for(child: int) -> int:
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return START_FAILED
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _kill_descendants() -> None:
    """Kill and reap until the calling process, which adopts orphans, has no child left."""
    own = os.getpid()
    while True:
        for name in os.listdir("/proc"):
            if name.isdecimal() and _parent_of(name) == own:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(name), signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _parent_of(process: str) -> int:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _execute(command: Command, kept: _Kept, *, privileged: bool, pdeath: bool) -> NoReturn:
    try:
        if pdeath:
            kernel.die_with_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        if kept.terminal:
            fcntl.ioctl(kept.stdin, termios.TIOCSCTTY, 0)
        _enter_folder(command["folder"])
        program = find_executable(command)
        if not privileged:
            kernel.drop_capabilities()
        os.execve(program, command["argv"], command["environment"])
    except BaseException as error:
        message = _describe(error)
        if not isinstance(error, _NotStartable):
            message = f'exec: "{command["argv"][0]}": {message.lower()}'
        with contextlib.suppress(OSError):
            os.write(kept.status, message.encode())
    finally:
        os._exit(START_FAILED)


def _enter_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise _NotStartable(f'working directory "{folder}": {error.strerror}') from None


def find_executable(command: Command) -> str:
    """The path to execute, or an error that words it as container runtimes do."""
    name = command["argv"][0]
    if "/" not in name:
        for folder in command["environment"].get("PATH", os.defpath).split(":"):
            candidate = os.path.join(folder or ".", name)
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                return candidate
        raise _NotStartable(f'exec: "{name}": executable file not found in $PATH')
    if os.path.exists(name) or not command["programs"]:
        return name
    stand_in = os.path.join(command["programs"], os.path.basename(name))
    return stand_in if os.path.exists(stand_in) else name
