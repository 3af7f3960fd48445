"""What a container sees of this machine's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.node.conftest import RunningRunner, running_runner, until

from kajitori.laptop.node import runner as runner_script

UNPRIVILEGED = 65534
SYSTEM_PYTHON = "/usr/bin/python3.11"


class UnprivilegedRunner(RunningRunner):
    """A runner of a user who is not root, with the system's interpreter (ours may be in a private folder)."""

    def start_process(self) -> None:
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
        self.process = subprocess.Popen(
            [
                SYSTEM_PYTHON,
                "-S",
                "-E",
                str(runner_script.__file__),
                "--home",
                str(self.home),
                "--name",
                "node-1",
            ],
            user=UNPRIVILEGED,
            group=UNPRIVILEGED,
            extra_groups=[],
            stderr=subprocess.DEVNULL,
        )


def can_run_unprivileged() -> bool:
    if os.getuid() != 0 or not os.path.exists(SYSTEM_PYTHON) or not shutil.which("setpriv"):
        return False
    command = ["setpriv", f"--reuid={UNPRIVILEGED}", "--clear-groups", "unshare", "-Urm", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(params=["own user", "user namespace"])
async def isolated(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[RunningRunner]:
    if request.param == "user namespace":
        if not can_run_unprivileged():
            pytest.skip("this machine has no unprivileged user namespaces")
        async with running_runner(home, kind=UnprivilegedRunner) as running:
            assert running.info.user_namespace
            yield running
    else:
        async with running_runner(home) as running:
            if not running.info.namespaces:
                pytest.skip(running.info.message)
            yield running


async def output_of(running: RunningRunner, script: str, **options: Any) -> str:
    await running.client.start(running.container("c", ["sh", "-c", script], **options))
    record = await running.end_of("c")
    lines = [line.split(" ", 3)[3] for line in running.log("c").splitlines()]
    return "\n".join([*lines, f"exit {record.exit_code}"])


def is_here(path: str) -> bool:
    return os.path.exists(path)


def mount(source: Path, target: str, read_only: bool = False) -> dict[str, Any]:
    return {"source": str(source), "target": target, "read_only": read_only}


@pytest.fixture
def volume(home: Path) -> Path:
    folder = home / "volume"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "file").write_text("content\n")
    return folder


@pytest.mark.parametrize(
    "target", ["/models", "/etc/app/conf", "/var/run/secrets/x", "/usr/lib/app", "/opt/a/b/c"]
)
async def test_a_mount_path_that_is_missing_here_is_there_for_the_container_only(
    isolated: RunningRunner, volume: Path, target: str
) -> None:
    assert not is_here(target)
    output = await output_of(isolated, f"cat {target}/file", mounts=[mount(volume, target)])
    assert output == "content\nexit 0"
    assert not is_here(target)


async def test_a_file_bound_below_a_covered_folder_is_seen(isolated: RunningRunner, volume: Path) -> None:
    hosts = volume / "hosts"
    hosts.write_text("127.16.0.5 leader\n")
    mounts = [
        mount(hosts, "/etc/hosts"),
        mount(volume, "/etc/app/conf"),
        mount(volume / "file", "/etc/app.conf"),
    ]
    output = await output_of(isolated, "getent hosts leader | tr -s ' '; cat /etc/app.conf", mounts=mounts)
    assert output == "127.16.0.5 leader\ncontent\nexit 0"


async def test_a_hosts_file_that_is_rewritten_in_place_changes_for_the_container(
    isolated: RunningRunner, volume: Path
) -> None:
    hosts = volume / "hosts"
    hosts.write_text("127.16.0.5 leader\n")
    script = "until getent hosts late; do sleep 0.05; done"
    await isolated.client.start(
        isolated.container("c", ["sh", "-c", script], mounts=[mount(hosts, "/etc/hosts", read_only=True)])
    )
    with hosts.open("r+") as file:
        file.write("127.16.0.6 late\n127.16.0.5 leader\n")
    assert (await isolated.end_of("c")).exit_code == 0


async def test_a_read_only_volume_cannot_be_written_and_another_can(
    isolated: RunningRunner, volume: Path
) -> None:
    script = "echo x > /writable/new; echo y > /fixed/new || echo refused"
    mounts = [mount(volume, "/writable"), mount(volume, "/fixed", read_only=True)]
    output = await output_of(isolated, script, mounts=mounts)
    assert output.endswith("refused\nexit 0")
    assert (volume / "new").read_text() == "x\n"


async def test_a_volume_inside_a_volume_is_made_in_it(isolated: RunningRunner, volume: Path) -> None:
    inner = volume.parent / "inner"
    inner.mkdir()
    inner.chmod(0o777)
    output = await output_of(
        isolated,
        "touch /data/sub/made; ls /data/sub",
        mounts=[mount(inner, "/data/sub"), mount(volume, "/data")],
    )
    assert output == "made\nexit 0"
    assert (inner / "made").exists()
    assert (volume / "sub").is_dir()


async def test_a_container_sees_its_own_processes_devices_temporary_files_and_name(
    isolated: RunningRunner,
) -> None:
    script = "ls /proc | grep -c '^[0-9]'; hostname; ls /tmp | wc -l; echo x > /tmp/x; echo ok > /dev/null; ls /dev/shm"
    output = (await output_of(isolated, script)).splitlines()
    if (
        not isolated.info.user_namespace
    ):  # some machines hide parts of /proc, and then it cannot be mounted again
        assert int(output[0]) < 10
    assert output[1:] == ["c", "0", "exit 0"]
    assert (isolated.home / "tmp/c/x").exists()


async def test_the_clusters_home_is_hidden_but_for_what_is_exposed(
    isolated: RunningRunner, volume: Path
) -> None:
    (isolated.home / "secret").write_text("key")
    script = f"cat {isolated.home}/secret || echo hidden; cat {volume}/file"
    output = await output_of(isolated, script, exposed=[volume])
    assert output.endswith("hidden\ncontent\nexit 0")


async def test_a_volume_over_a_parent_of_what_is_exposed_does_not_take_it_away(
    isolated: RunningRunner, home: Path, volume: Path
) -> None:
    over = home / "over"
    over.mkdir()
    over.chmod(0o777)
    output = await output_of(
        isolated, f"cat {volume}/file; touch /tmp/mine", exposed=[volume], mounts=[mount(over, "/tmp")]
    )
    assert output == "content\nexit 0"
    assert (over / "mine").exists()


async def test_a_home_outside_of_tmp_is_hidden_too() -> None:
    home = Path(tempfile.mkdtemp(prefix=".kaji-node-", dir=Path.home()))
    try:
        (home / "secret").write_text("key")
        async with running_runner(home) as running:
            if not running.info.namespaces:
                pytest.skip(running.info.message)
            output = await output_of(running, f"cat {home}/secret || echo hidden; ls -A {home}")
            assert output.endswith("hidden\nexit 0")
    finally:
        shutil.rmtree(home)


async def test_a_mount_that_is_not_possible_is_named(isolated: RunningRunner, volume: Path) -> None:
    with pytest.raises(Exception, match="/etc/passwd exists and is not a folder"):
        await isolated.client.start(isolated.container("c", ["true"], mounts=[mount(volume, "/etc/passwd")]))


async def test_memory_volumes_are_shared_bounded_and_gone_with_the_runner(isolated: RunningRunner) -> None:
    folder = isolated.home / "memory"
    folder.mkdir()
    await isolated.client.call("make_memory", path=str(folder), bytes=1 << 20)
    mounts = [mount(folder, "/shared")]
    for name, script in (
        ("a", "echo hi > /shared/x"),
        ("b", "cat /shared/x; head -c 2000000 /dev/zero > /shared/y"),
    ):
        await isolated.client.start(isolated.container(name, ["sh", "-c", script], mounts=mounts))
        await isolated.end_of(name)
    assert "F hi" in isolated.log("b")
    assert "No space left" in isolated.log("b")
    assert not list(folder.iterdir())
    await isolated.client.call("remove_memory", path=str(folder))


async def test_many_containers_leave_no_mounts_behind(isolated: RunningRunner, volume: Path) -> None:
    def mounts_of_this_machine() -> int:
        return len(Path("/proc/self/mountinfo").read_text().splitlines())

    before = mounts_of_this_machine()
    for number in range(5):
        await isolated.client.start(
            isolated.container(
                f"c{number}", ["true"], mounts=[mount(volume, "/models"), mount(volume, "/etc/x")]
            )
        )
    await until(lambda: len(isolated.exits) == 5)
    assert mounts_of_this_machine() == before
