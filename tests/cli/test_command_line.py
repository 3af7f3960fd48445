"""The command line without a cluster: help, unknown words, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kajitori.base.errors import UsageError
from kajitori.cli import COMMANDS, main
from kajitori.cli.connection import split_names

HEAVY = ("aiohttp", "grpc", "numpy", "rich", "msgspec", "yaml", "kajitori.api", "kajitori.kube")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kajitori.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


@pytest.mark.parametrize("words", [["--help"], ["help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"import sys; from kajitori.cli import main; main({words!r}); print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines())
    assert not [name for name in HEAVY if name in loaded]


def test_help_names_every_command() -> None:
    assert all(f"  {name} " in run("--help").stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: kaji {name}" in done.stdout


def test_an_unknown_command_gets_the_nearest_one() -> None:
    done = run("staus")
    assert done.returncode == 2
    assert done.stderr == "kaji: no command 'staus' (did you mean `kaji status`?)\n"


def test_no_command_prints_usage_and_fails() -> None:
    assert run().returncode == 2


def test_without_a_cluster_a_command_says_how_to_get_one(tmp_path: Path) -> None:
    done = run("status", KAJI_HOME=str(tmp_path / "none"))
    assert done.returncode == 3
    assert done.stderr == f"kaji: no cluster in {tmp_path}/none (`kaji up` starts it)\n"


def test_get_without_a_kubeconfig_is_one_line(tmp_path: Path) -> None:
    done = run("get", "pods", HOME=str(tmp_path), KAJI_HOME=str(tmp_path / "none"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "kaji up" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_offer_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "explain" in script
    assert "kaji completion --candidates" in script


def test_the_bash_completion_completes(tmp_path: Path) -> None:
    script = run("completion", "bash").stdout
    (tmp_path / "completion").write_text(script)
    program = (
        f"source {tmp_path}/completion; COMP_WORDS=(kaji st); COMP_CWORD=1; _kaji; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "status"


def test_the_completion_of_rollout_offers_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "--candidates", "rollout", ""]) == 0
    assert capsys.readouterr().out.split() == ["status", "pause", "resume", "undo", "history", "plan"]


def test_up_refuses_impossible_numbers(tmp_path: Path) -> None:
    done = run("up", "--nodes", "0", "--home", str(tmp_path / "c"))
    assert done.returncode == 2
    assert "--nodes 0 is not between 1 and 896" in done.stderr
    assert not (tmp_path / "c").exists()


def test_up_refuses_an_unknown_gpu_with_those_that_exist(tmp_path: Path) -> None:
    done = run("up", "--gpu", "h300", "--home", str(tmp_path / "c"))
    assert done.returncode == 2
    assert "h200" in done.stderr
    assert not (tmp_path / "c").exists()


def test_down_without_a_cluster_is_fine(tmp_path: Path) -> None:
    done = run("down", "--home", str(tmp_path / "none"))
    assert done.returncode == 0
    assert done.stdout == f"No cluster in {tmp_path}/none.\n"


def test_purge_does_not_remove_a_folder_that_is_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    run("down", "--purge", "--home", str(tmp_path))
    assert (tmp_path / "precious").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["get"], "kaji: the following arguments are required: what (`kaji get --help` tells more)\n"),
        (
            ["up", "--nodes", "x"],
            "kaji: --nodes: invalid int value: 'x' (`kaji up --help` tells more)\n",
        ),
        (
            ["get", "pods", "--bogus"],
            "kaji: unrecognized arguments: --bogus (`kaji get --help` tells more)\n",
        ),
    ],
)
def test_a_command_that_is_called_wrongly_says_so_in_one_line(words: list[str], line: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr) == (2, line)


def test_up_refuses_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("up", "--home", str(tmp_path / "file" / "home"), "--port", "16599", "--gateway-port", "16598")
    assert done.returncode == 2
    assert done.stderr.startswith(f"kaji: {tmp_path}/file/home cannot be made: Not a directory")


def test_up_refuses_an_amount_that_is_none(tmp_path: Path) -> None:
    done = run("up", "--home", str(tmp_path / "home"), "--node-memory", "lots")
    assert done.returncode == 2
    assert done.stderr.startswith("kaji: --node-memory: quantity 'lots' is not a number")


def test_up_reads_its_manifests_before_it_starts(tmp_path: Path) -> None:
    done = run("up", "--home", str(tmp_path / "home"), "--apply", str(tmp_path / "none.yaml"))
    assert (done.returncode, done.stderr) == (2, f"kaji: {tmp_path}/none.yaml does not exist\n")
    assert not (tmp_path / "home").exists()


def test_a_question_without_a_model_is_noticed() -> None:
    done = run("chat", "What is Kubernetes?")
    assert done.returncode == 2
    assert done.stderr == (
        "kaji: 'What is Kubernetes?' is not a model's name (kaji chat MODEL \"What is Kubernetes?\")\n"
    )


def test_names_may_repeat_their_resource_and_no_other() -> None:
    assert split_names("pod/web", ["pod/shop"], "get") == ("pod", ["web", "shop"])
    assert split_names("pod", ["web"], "get") == ("pod", ["web"])
    with pytest.raises(UsageError, match=r"'pod/web' is not a name \(kaji get pod/web\)"):
        split_names("pods", ["pod/web"], "get")


def test_up_refuses_a_home_in_which_sockets_cannot_be(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 100)
    done = run("up", "--home", str(home))
    assert done.returncode == 2
    assert "too long for the sockets in it (choose a shorter one with --home)" in done.stderr
    assert not home.exists()


def test_a_refusal_that_names_the_command_is_not_given_it_twice() -> None:
    from kajitori.cli.conversation import _refusal

    told = b'{"error": {"message": "no backend answered; `kaji explain request 1` tells of each attempt"}}'
    assert str(_refusal(503, told, "1")).count("kaji explain request") == 1
    assert str(_refusal(503, b"{}", "1")).count("kaji explain request") == 1


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("image.pullPolicy=Sometimes", "expected Always or IfNotPresent or Never"),
        ("group.replicas=3", "there is no choice 'group.replicas' (did you mean groups.replicas"),
        ("groups=3", "groups has choices of its own (they are groups.enabled, "),
        ("groups.replicas=many", "expected integer"),
    ],
)
def test_a_choice_that_there_is_not_is_a_wrong_call_that_says_what_there_is(setting: str, told: str) -> None:
    done = run("install", "--render", "--set", setting)
    assert done.returncode == 2
    assert f"kaji: --set {setting}: {told}" in done.stderr
    assert done.stdout == ""


def test_a_kubeconfig_that_was_named_and_is_not_there_is_not_answered_with_another_cluster(
    tmp_path: Path,
) -> None:
    done = run("get", "pods", "--kubeconfig", str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (
        2,
        f"kaji: {tmp_path}/none: no such kubeconfig (is the path right?)\n",
    )
    done = run("get", "pods", "--home", str(tmp_path / "none"))
    assert done.stderr == f"kaji: no cluster in {tmp_path}/none (`kaji up` starts one)\n"


def test_a_cluster_that_was_named_and_does_not_answer_is_not_answered_with_another(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "{apiVersion: v1, kind: Config, current-context: x, users: [{name: x, user: {}}],"
        " clusters: [{name: x, cluster: {server: 'http://127.0.0.1:9'}}],"
        " contexts: [{name: x, context: {cluster: x, user: x}}]}"
    )
    done = run("get", "pods", "--kubeconfig", str(tmp_path / "config"))
    assert done.returncode == 3
    assert f"is the cluster of {tmp_path}/config running?" in done.stderr
    assert "kaji up" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rollout"], "the following arguments are required: VERB"),
        (["rollout", "status"], "the following arguments are required: what"),
        (["rollout", "undo", "web"], "'web' names no object (kaji rollout undo KIND/NAME, such as lws/web)"),
        (["rollout", "status", "lws/x", "--watch=maybe"], "invalid choice: 'maybe'"),
        (["rollout", "undo", "lws/x", "--to-revision", "two"], "invalid int value: 'two'"),
    ],
)
def test_a_rollout_that_is_asked_for_wrongly_says_so(words: list[str], told: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
