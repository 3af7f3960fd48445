"""Groups of the simulated engine, with a process for each rank."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request

import pytest

from .simulated_processes import PATIENCE_SECONDS, Engine, start, status_of, wait_for


def codes(engine: Engine) -> list[int]:
    return [process.wait(timeout=PATIENCE_SECONDS) for process in engine.ranks]


def test_a_group_is_ready_only_when_all_ranks_are_there(tmp_path):
    engine = Engine(tmp_path, nodes=3)
    with engine:
        engine.ranks[2].kill()
        engine.ranks[2].wait()
        wait_for(lambda: status_of(engine.url + "/health") == 503, "the leader to listen")
        # A rank that died before the group was formed may come again.
        engine.ranks[2] = engine.start_rank(2)
        engine.wait_ready()


def test_a_leader_alone_says_what_it_waits_for(tmp_path):
    engine = Engine(tmp_path, nodes=2)
    leader = engine.start_rank(0)
    try:
        wait_for(lambda: status_of(engine.url + "/health") == 503, "the leader to listen")
        assert status_of(engine.url + "/v1/chat/completions") == 405
        request = urllib.request.Request(engine.url + "/v1/completions", b'{"prompt":"x"}')
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request)
        assert error.value.code == 503
        assert b"waiting for the group" in error.value.read()
        error.value.close()
    finally:
        leader.kill()
        leader.wait()


@pytest.mark.parametrize("victim", [0, 2])
def test_when_one_rank_is_killed_the_whole_engine_dies_and_says_who(tmp_path, victim):
    with Engine(tmp_path, nodes=4) as engine:
        engine.wait_ready()
        engine.ranks[victim].kill()
        expected = [1, 1, 1, 1]
        expected[victim] = -signal.SIGKILL
        assert codes(engine) == expected
        for rank in {0, 1, 3} - {victim}:
            assert f"rank {victim} was lost" in engine.log(rank).read_text()


def test_a_rank_that_is_asked_to_end_ends_the_engine(tmp_path):
    with Engine(tmp_path, nodes=3) as engine:
        engine.wait_ready()
        engine.ranks[1].terminate()
        assert codes(engine) == [1, 0, 1]
        assert "rank 1 was lost: it was asked to end" in engine.log(2).read_text()


def test_a_group_that_is_asked_to_end_ends_in_peace(tmp_path):
    with Engine(tmp_path, nodes=3) as engine:
        engine.wait_ready()
        engine.ranks[0].terminate()
        assert codes(engine) == [0, 0, 0]


def test_a_rank_of_another_group_is_refused(tmp_path):
    with Engine(tmp_path, nodes=2) as engine:
        engine.wait_ready()
        meeting = [f"--master-addr={engine.address}", f"--master-port={engine.meeting_port}", "--headless"]
        for arguments, why in [
            (["--nnodes=4", "-tp=4", "--node-rank=3"], "this group has 2"),
            (["--nnodes=2", "-tp=2", "--node-rank=1"], "is here already"),
        ]:
            log = tmp_path / "stranger.log"
            stranger = start(["serve", engine.model, *arguments, *meeting], log)
            assert stranger.wait(timeout=PATIENCE_SECONDS) == 1
            assert why in log.read_text()
        log = tmp_path / "other.log"
        stranger = start(["serve", "Qwen/Qwen3-8B", "--nnodes=2", "-tp=2", "--node-rank=1", *meeting], log)
        assert stranger.wait(timeout=PATIENCE_SECONDS) == 1
        assert "this group serves Qwen/Qwen3-32B" in log.read_text()
        assert status_of(engine.url + "/health") == 200


def test_bytes_that_are_no_join_do_not_disturb_a_group(tmp_path):
    with Engine(tmp_path, nodes=2) as engine:
        engine.wait_ready()
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100_000, b"join 1 x y\n", b""):
            with socket.create_connection((engine.address, engine.meeting_port)) as connection:
                connection.sendall(garbage)
        assert status_of(engine.url + "/health") == 200


def test_a_worker_without_a_leader_ends_after_its_timeout(tmp_path):
    log = tmp_path / "log"
    arguments = ["--nnodes=2", "-tp=2", "--node-rank=1", "--headless", "--distributed-timeout-seconds=0.2"]
    worker = start(["serve", "Qwen/Qwen3-8B", *arguments, "--master-addr=127.210.255.254"], log)
    assert worker.wait(timeout=PATIENCE_SECONDS) == 1
    assert "did not appear" in log.read_text()


def test_a_worker_loads_nothing_beyond_the_standard_library_and_little_of_that(tmp_path):
    with Engine(tmp_path, nodes=2) as engine:
        engine.wait_ready()
        worker = engine.ranks[1].pid
        with open(f"/proc/{worker}/maps") as maps:
            libraries = {line.split("/")[-1].strip() for line in maps if ".so" in line}
        assert not [name for name in libraries if "msgspec" in name or "_asyncio" in name or "_ssl" in name]
        with open(f"/proc/{worker}/statm") as statm:
            resident_mib = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        assert resident_mib < 20


def test_a_port_that_is_taken_is_said(tmp_path):
    with Engine(tmp_path) as engine:
        engine.wait_ready()
        log = tmp_path / "second.log"
        second = start(["serve", engine.model, f"--port={engine.port}", f"--host={engine.address}"], log)
        assert second.wait(timeout=PATIENCE_SECONDS) == 1
        assert "cannot listen" in log.read_text()
