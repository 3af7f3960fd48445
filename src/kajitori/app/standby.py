"""Follows upstream controllers at run time: closes and opens what stands back for them, and says so.

What is off and why is in the ConfigMap `kajitori-COMPONENT-status` of the installation's namespace, for `kaji status` and people, and
in an event about the component's Deployment each time it changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from kajitori.api.resource import CONFIG_MAPS, DEPLOYMENTS
from kajitori.app.upstream import COMPONENTS, Found, Signal, State, reason_of, signals_of, state_of
from kajitori.control.controller import Key
from kajitori.control.runtime import Runtime

_log = logging.getLogger(__name__)

FIELD_MANAGER = "kajitori-status"
STATUS_KEY = "capabilities"
_KEY = Key("", "status")


def status_name(component: str) -> str:
    """The ConfigMap that says what a component does and leaves alone."""
    return f"kajitori-{component}-status"


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Spec(msgspec.Struct, frozen=True):
    replicas: int = 1


class _Rival(msgspec.Struct, frozen=True):
    """A Deployment, or any other object: only a Deployment has replicas."""

    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()


class Standby:
    """component: `controllers` or `gateway`. yields: False if it acts whoever else does."""

    def __init__(self, runtime: Runtime, component: str, namespace: str, *, yields: bool) -> None:
        self._runtime = runtime
        self._component = component
        self._namespace = namespace
        self._yields = yields
        self._told: list[State] | None = None
        self._listeners: list[Callable[[list[State]], None]] = []
        self._recorder = runtime.recorder(f"kajitori.dev/{component}")
        self._informers = {
            signal: runtime.informer(signal.resource, _Rival, field_selector=f"metadata.name={signal.name}")
            for signal in (signals_of(COMPONENTS[component]) if yields else ())
        }
        controller = runtime.controller(f"{component}-status", self._report)
        for informer in self._informers.values():
            informer.on_change(lambda old, new: self._look())
            controller.watch(informer, lambda _: (_KEY,))
        controller.enqueue(_KEY)

    def on_change(self, callback: Callable[[list[State]], None]) -> None:
        """Called with the states when they may have changed, and once now."""
        self._listeners.append(callback)
        callback(self.states())

    def states(self) -> list[State]:
        """Of each capability of the component, as far as is known now."""
        found = [
            Found(signal.project, _where(signal, rival))
            for signal, informer in self._informers.items()
            for rival in informer.list()
            if rival.spec.replicas != 0
        ]
        return [
            state_of(capability, found, yields=self._yields) for capability in COMPONENTS[self._component]
        ]

    def _look(self) -> None:
        states = self.states()
        for callback in self._listeners:
            callback(states)

    async def _report(self, key: Key) -> None:
        states = self.states()
        if states == self._told:
            return
        text = msgspec.json.format(msgspec.json.encode(states), indent=1).decode() + "\n"
        await self._runtime.client.patch(
            CONFIG_MAPS,
            status_name(self._component),
            {"data": {STATUS_KEY: text}},
            namespace=self._namespace,
            field_manager=FIELD_MANAGER,
        )
        before = {state.capability: state for state in self._told or ()}
        self._told = states
        for state in states:
            await self._tell(before.get(state.capability), state)

    async def _tell(self, before: State | None, state: State) -> None:
        reason = reason_of(state)
        about = {
            "apiVersion": DEPLOYMENTS.api_version,
            "kind": DEPLOYMENTS.kind,
            "metadata": {"namespace": self._namespace, "name": f"kajitori-{self._component}"},
        }
        if reason is not None:
            _log.warning("%s is off: %s", state.capability, reason)
            await self._recorder.record(about, reason.code, str(reason), type="Warning", action="StandBack")
        elif before is not None and not before.acts:
            message = f"Kajitori serves {' and '.join(state.kinds)} from now on"
            _log.info("%s is on: %s", state.capability, message)
            await self._recorder.record(about, "TakenOver", message, action="Serve")


def _where(signal: Signal, rival: Any) -> str:
    metadata: _Metadata = rival.metadata
    place = f"{metadata.namespace}/" if metadata.namespace else ""
    return f"{signal.resource.kind} {place}{metadata.name}"
