"""The process of a node's agent: arguments, clients, signals, memory."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import signal
from pathlib import Path

from kajitori.control.logs import configure_logging
from kajitori.kube.client import Client
from kajitori.kube.config import load_own_config
from kajitori.laptop.node.agent import Agent
from kajitori.laptop.node.native import compile_programs
from kajitori.laptop.node.node import NodeOptions
from kajitori.laptop.settings import is_joined_home, read_node_settings, read_settings


async def _run(home: Path, name: str, options: NodeOptions) -> None:
    kubeconfig = home / "pki" / "clients" / f"{name}.kubeconfig"
    while not kubeconfig.exists():  # the API server writes it when it starts for the first time
        await asyncio.sleep(0.1)
    settings = read_node_settings(home) if is_joined_home(home) else read_settings(home).node(name)
    native = await asyncio.to_thread(compile_programs, home / "cache")
    async with Client(load_own_config(home, name), user_agent=f"kajitori-node/{name}") as client:
        agent = Agent(home, client, settings, native, options)
        running = asyncio.ensure_future(agent.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        # What is loaded by now stays: the collector need not look at it again and again.
        gc.freeze()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the pods of one node.")
    parser.add_argument("--home", required=True, help="the cluster's home")
    parser.add_argument("--name", required=True, help="the node's name")
    parser.add_argument(
        "--back-off-seconds",
        type=float,
        default=NodeOptions.back_off_first_seconds,
        help="the wait before the second restart of a container; it doubles from there",
    )
    arguments = parser.parse_args()
    configure_logging()
    options = NodeOptions(back_off_first_seconds=arguments.back_off_seconds)
    with asyncio.Runner(loop_factory=_fastest_loop) as runner:
        runner.run(_run(Path(arguments.home).absolute(), arguments.name, options))


def _fastest_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
