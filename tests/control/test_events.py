import asyncio

from kajitori.base.clock import LoopClock
from kajitori.control.testing import run_virtual
from kajitori.kube.events import EventRecorder

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": "u1"}}


def recorder(server):
    ids = iter(range(10_000))
    return EventRecorder(
        server.client(), "kajitori.dev/test", clock=LoopClock(), new_id=lambda: f"{next(ids):016x}"
    )


def written(server):
    return [body for key, body in server.objects.items() if "events" in key]


def test_an_event_is_written_in_the_shape_of_events_k8s_io(new_memory_server):
    async def scenario():
        server = new_memory_server()
        events = recorder(server)
        await events.record(POD, "Restarted", "the whole group 0 restarts", type="Warning", action="Restart")
        assert asyncio.get_running_loop().time() == 0, "recording waits for nothing"
        await asyncio.sleep(1)
        (event,) = written(server)
        assert event["metadata"]["namespace"] == "default" and event["metadata"]["name"].startswith("web.")
        assert event["regarding"] == {
            "apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "web", "uid": "u1"
        }  # fmt: skip
        assert (event["reason"], event["type"], event["action"]) == ("Restarted", "Warning", "Restart")
        assert event["reportingController"] == "kajitori.dev/test" and "series" not in event
        await events.close()

    run_virtual(scenario())


def test_the_same_said_a_thousand_times_is_one_event_with_a_count_and_few_writes(new_memory_server):
    async def scenario():
        server = new_memory_server()
        events = recorder(server)
        for _ in range(1000):
            await events.record(POD, "BackOff", "restarting failed container")
            await asyncio.sleep(0.05)
        await events.close()
        (event,) = written(server)
        assert event["series"]["count"] == 1000
        assert len(server.log) < 15

    run_virtual(scenario())


def test_an_event_that_cannot_be_written_silences_no_other(new_memory_server):
    async def scenario():
        server = new_memory_server()
        events = recorder(server)
        await events.record(POD, "FailedMount", "no such file: \udcff")
        await events.record(POD, "Created", "pod 1")
        await asyncio.sleep(10)
        await events.record(POD, "Started", "pod 1")
        await asyncio.sleep(10)
        assert [event["reason"] for event in written(server)] == ["Created", "Started"]
        await events.close()

    run_virtual(scenario())


def test_an_outage_loses_nothing_and_never_holds_the_caller_up(new_memory_server):
    async def scenario():
        server = new_memory_server()
        server.down = True
        events = recorder(server)
        for number in range(10):
            await events.record(POD, "Created", f"pod {number}")
        await asyncio.sleep(120)
        assert written(server) == []
        server.down = False
        await asyncio.sleep(30)
        assert len(written(server)) == 10
        await events.close()

    run_virtual(scenario())


def test_an_object_that_floods_is_cut_off_alone(new_memory_server):
    async def scenario():
        server = new_memory_server()
        events = recorder(server)
        other = {**POD, "metadata": {"name": "calm", "namespace": "default", "uid": "u2"}}
        for number in range(500):
            await events.record(POD, "Noise", f"message {number}")
        await events.record(other, "Fine", "one event")
        await asyncio.sleep(30)
        names = [event["regarding"]["name"] for event in written(server)]
        assert names.count("web") == 25 and names.count("calm") == 1
        assert events.dropped == 475
        await events.close()

    run_virtual(scenario())


def test_closing_ends_in_time_though_the_server_is_away(new_memory_server):
    async def scenario():
        server = new_memory_server()
        server.down = True
        events = recorder(server)
        await events.record(POD, "Created", "pod")
        await asyncio.sleep(1)
        before = asyncio.get_running_loop().time()
        await events.close()
        assert asyncio.get_running_loop().time() - before <= 2
        assert events.dropped == 1

    run_virtual(scenario())


def test_a_refused_event_is_dropped_and_the_next_is_written(new_memory_server):
    async def scenario():
        server = new_memory_server()
        handle, refused = server._handle, []

        def once(method, path, query, body):
            if not refused and method == "POST":
                refused.append(path)
                return 403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "terminating"}
            return handle(method, path, query, body)

        server._handle = once
        events = recorder(server)
        await events.record(POD, "A", "first")
        await events.record(POD, "B", "second")
        await asyncio.sleep(60)
        assert [event["reason"] for event in written(server)] == ["B"]
        await events.close()

    run_virtual(scenario())
