import asyncio

import pytest

from kajitori.api.resource import LEASES
from kajitori.base.clock import LoopClock
from kajitori.control.testing import run_virtual
from kajitori.kube.lease import LeaderElection, LeadershipLost, LeaseSettings


class Contender:
    """One process that wants to lead; notes when it acted."""

    def __init__(self, server, name, seed, clock_offset_seconds=0.0, settings=None):
        self.acts = []
        self.lost = False
        self.election = LeaderElection(
            server.client(seed), "kube-system", "kajitori", name,
            clock=LoopClock(1_700_000_000 + clock_offset_seconds), seed=seed, settings=settings,
        )  # fmt: skip
        self.task = asyncio.ensure_future(self._run())

    async def _run(self):
        try:
            await self.election.lead(self._work)
        except LeadershipLost:
            self.lost = True

    async def _work(self):
        while True:
            self.acts.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.25)

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def test_one_leads_and_hands_over_at_once_when_it_stops(new_memory_server):
    async def scenario():
        server = new_memory_server()
        first = Contender(server, "a", 1)
        await asyncio.sleep(1)
        second = Contender(server, "b", 2)
        await asyncio.sleep(120)
        assert first.acts and not second.acts
        await first.stop()
        stopped = asyncio.get_running_loop().time()
        await asyncio.sleep(5)
        assert second.acts[0] - stopped < 3
        lease = await server.client().get(LEASES, "kajitori", "kube-system")
        assert lease["spec"]["holderIdentity"] == "b" and lease["spec"]["leaseTransitions"] == 1
        await second.stop()

    run_virtual(scenario())


@pytest.mark.parametrize("offset", [0, -86_400, 86_400])
def test_a_killed_leader_is_followed_after_the_lease_whatever_its_clock_says(new_memory_server, offset):
    async def scenario():
        server = new_memory_server()
        first = Contender(server, "a", 1, clock_offset_seconds=offset)
        await asyncio.sleep(1)
        second = Contender(server, "b", 2)
        await asyncio.sleep(30)
        # Killed: nothing is given back.
        first.election._release = lambda: asyncio.sleep(0)
        await first.stop()
        killed = asyncio.get_running_loop().time()
        await asyncio.sleep(40)
        assert 12 < second.acts[0] - killed < 20
        await second.stop()

    run_virtual(scenario())


@pytest.mark.parametrize("seed", range(8))
def test_a_leader_cut_off_from_the_server_stops_before_another_begins(new_memory_server, seed):
    async def scenario():
        server = new_memory_server()
        first = Contender(server, "a", seed)
        await asyncio.sleep(1)
        second = Contender(server, "b", seed + 100)
        await asyncio.sleep(20 + seed * 0.37)
        send = first.election._client._transport.send

        async def hang(*args):
            await asyncio.Event().wait()

        first.election._client._transport = type("Cut", (), {"send": staticmethod(hang)})()
        await asyncio.sleep(60)
        assert first.lost and second.acts
        assert first.acts[-1] < second.acts[0]
        assert send
        await second.stop()

    run_virtual(scenario())


def test_a_short_outage_of_the_server_changes_no_leader(new_memory_server):
    async def scenario():
        server = new_memory_server()
        first, second = Contender(server, "a", 1), None
        await asyncio.sleep(1)
        second = Contender(server, "b", 2)
        await asyncio.sleep(20)
        server.down = True
        await asyncio.sleep(6)
        server.down = False
        await asyncio.sleep(60)
        assert not first.lost and not second.acts
        await first.stop()
        await second.stop()

    run_virtual(scenario())


def test_settings_that_would_allow_two_leaders_are_refused():
    with pytest.raises(ValueError, match="in order"):
        LeaseSettings(lease_seconds=10, renew_deadline_seconds=15)
