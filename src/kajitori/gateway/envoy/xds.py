"""The resources that Envoy shall have, and what becomes of those that it refuses.

A version is a digest of the content. So an unchanged resource keeps its version across restarts of this process,
and an Envoy that kept running is sent nothing it already has. What many objects share, and Envoy refuses, is a
`kajitori.gateway.envoy.quarantine.Case` until Envoy has it as it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kajitori.gateway.envoy.encoded import Encoded, encoded
from kajitori.gateway.envoy.former_chains import former
from kajitori.gateway.envoy.forms import PROBE, Part
from kajitori.gateway.envoy.parts import divide
from kajitori.gateway.envoy.quarantine import Case
from kajitori.gateway.envoy.refused_part import RefusedPart
from kajitori.gateway.envoy.remains import Remains
from kajitori.gateway.envoy.shards import scope_of_former, table_of
from kajitori.gateway.envoy.sources import Sources
from kajitori.gateway.envoy.stand_ins import stand_in
from kajitori.gateway.envoy.words import shown
from kajitori.gateway.resources import EXTENSION, LISTENER, ROUTES, SCOPES, SECRET, Resources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.gateway.envoy.encode import Encoder
    from kajitori.gateway.envoy.inquiry import Inquiry

# What names resources of other types, and is of no use without them.
_IN_NEED = (LISTENER, EXTENSION, ROUTES)
# Type and name.
Key = tuple[str, str]


class _Refusal(msgspec.Struct):
    """Of a resource that is one thing. by: whom to ask about it would be. retried: it is sent once more."""

    version: str
    words: str
    by: Inquiry | None
    retried: bool = False


class Snapshot:
    """What Envoy shall have now.

    rejected: `type/name` -> why it was refused, by our own encoder or by Envoy; the last good one stays. Of what many
    share `type/name#place#unit`, with the rest in force.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encode = encoder.encode
        self._wanted = Sources(encoder.encode)
        self._remains = Remains()
        self._resources, self._versions = self._wanted.resources, self._wanted.versions
        self._good: dict[Key, Encoded] = {}
        self._refused: dict[Key, _Refusal] = {}
        self._cases: dict[Key, Case] = {}
        self._stand_ins: dict[Key, Encoded] = {}
        # Of listeners that are refused as a whole: what was taken last, what is wanted, and what stays.
        self._formers: dict[str, tuple[Encoded, Encoded, Encoded]] = {}
        self._former_shards: dict[str, Encoded] = {}
        # What other processes' Envoys refuse, by resource.
        self._heeded: dict[Key, dict[tuple[Part, str], RefusedPart]] = {}
        # Who finds out for a case what is refused, and cases of which that one has left.
        self._askers: dict[Key, Inquiry] = {}
        self._left: set[Key] = set()

    @property
    def resources(self) -> dict[str, dict[str, Encoded]]:
        """What is wanted, by type and name, and what is needed still."""
        return self._resources

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """Of all of it."""
        return self._versions

    @property
    def rejected(self) -> dict[str, str]:
        found = {f"{kind}/{name}": refusal.words for (kind, name), refusal in self._refused.items()}
        found |= {f"{kind}/{name}": message for (kind, name), message in self._wanted.malformed.items()}
        for case in self._cases.values():
            found |= case.rejected
        return {
            table_of(key) if key.startswith(f"{ROUTES}/") else key: message for key, message in found.items()
        }

    def refused_of(self, kind: str) -> set[str]:
        """Names of resources of which something else is sent than what is wanted, or nothing."""
        return {key[1] for key in (*self._refused, *self._cases) if key[0] == kind}

    @property
    def refused_parts(self) -> list[RefusedPart]:
        """What Envoys of this process refuse of what many share."""
        return [part for case in self._cases.values() for part in case.refused_parts(table_of(case.name))]

    def heed(self, refused: Iterable[RefusedPart]) -> None:
        """What Envoys of other processes refuse goes to none of this one either."""
        self._heeded = {}
        for each in refused:
            self._heeded.setdefault((each.kind, each.name), {})[each.part, each.digest] = each
        self._follow()
        self._keep_what_is_needed()

    @property
    def asks(self) -> bool:
        """Whether something is being found out from Envoy."""
        return any(case.open for case in self._cases.values())

    @property
    def unknown(self) -> list[Key]:
        """Of what is refused that of which this process does not know what was there before."""
        failed = [key for key, case in self._cases.items() if case.holds_all]
        return [
            (kind, name)
            for kind, name in (*self._refused, *failed)
            if kind in _IN_NEED and (kind, name) not in self._good
        ]

    def sources(self) -> set[str]:
        """Which sources have set their resources."""
        return self._wanted.names()

    def set_resources(self, source: str, resources: Resources) -> bool:
        """Replaces all resources of one source. True: something changed."""
        before = self._wanted.resources
        changed = self._wanted.set_resources(source, resources)
        if changed:
            if self._remains and self._is_confirmed(before):
                self._remains.forget()
            self._remains.note(before, self._wanted.resources, self._good)
            self._take_remains()
            self._forget_what_changed()
            self._follow()
            self._keep_what_is_needed()
        return changed

    def _is_confirmed(self, wanted: dict[str, dict[str, Encoded]]) -> bool:
        """Whether it is known of all that may need others whether Envoy takes it."""
        return all(
            (good := self._good.get((kind, name))) is not None and good.version == item.version
            for kind in _IN_NEED
            for name, item in wanted[kind].items()
            if (kind, name) not in self._refused and (kind, name) not in self._cases
        )

    def _keep_what_is_needed(self) -> None:
        """By what is in force of before. While something is being found out nothing goes that may be."""
        if not self._remains or self.asks:
            return
        in_force = [
            content for key, case in self._cases.items() for content in case.of_before(self._good.get(key))
        ]
        in_force += [good.value for key in self._refused if (good := self._good.get(key)) is not None]
        before = self._remains.kept
        self._remains.keep(in_force)
        if self._remains.kept != before:
            self._take_remains()

    def _take_remains(self) -> None:
        self._resources = self._remains.among(self._wanted.resources)
        self._versions = self._wanted.versions
        if self._remains.kept:
            self._versions = {
                kind: {name: item.version for name, item in items.items()}
                for kind, items in self._resources.items()
            }

    def _forget_what_changed(self) -> None:
        """A refusal is of one version; another one is to be tried."""
        versions = self.versions
        self._refused = {
            (kind, name): refusal
            for (kind, name), refusal in self._refused.items()
            if versions[kind].get(name) == refusal.version
        }
        self._stand_ins = {key: sent for key, sent in self._stand_ins.items() if key in self._refused}
        self._formers = {name: known for name, known in self._formers.items() if name in versions[LISTENER]}
        for name in [name for name in self._former_shards if table_of(name) not in versions[SCOPES]]:
            del self._former_shards[name]

    def _follow(self) -> None:
        """Tells cases what is wanted now, and opens one for what cannot even be sent as a whole."""
        for kind, name in [key for key in self._cases if key[1] not in self.resources[key[0]]]:
            self._close(kind, name)
        heeded = {
            (kind, name)
            for kind in {kind for kind, _ in self._heeded}
            for name in self.resources[kind]
            if (kind, table_of(name)) in self._heeded
        }
        for kind, name in self._cases.keys() | self._wanted.unsendable | heeded:
            wanted = self.resources[kind].get(name)
            if wanted is None:
                continue
            case, good = self._cases.get((kind, name)), self._good.get((kind, name))
            known = case is not None
            case = case or Case(kind, name, wanted, PROBE)
            if (case.change(wanted) or not known) and not wanted.data:
                case.mend(self.encode)
            case.heed(self._heeded.get((kind, table_of(name)), {}))
            if known and case.over and good is not None and good.version == wanted.version:
                self._close(kind, name)
            elif not known and not case.over:
                self._cases[kind, name] = case

    def _close(self, kind: str, name: str) -> None:
        del self._cases[kind, name]
        self._askers.pop((kind, name), None)
        self._left.discard((kind, name))

    def effective(self, kind: str, name: str) -> Encoded | None:
        """What to send: the wanted resource, or the last good one where Envoy refused this very version."""
        wanted = self.resources[kind].get(name)
        if wanted is None:
            return None
        case = self._cases.get((kind, name))
        good = self._good.get((kind, name))
        if case is not None:
            return self._former(name, good, wanted) if case.fails else case.served(good, self.encode)
        refusal = self._refused.get((kind, name))
        if refusal is not None and refusal.version == wanted.version and not refusal.retried:
            return self._former(name, good, wanted) or self._stand_in(kind, wanted, refusal.words)
        return wanted

    def _former(self, name: str, good: Encoded | None, wanted: Encoded) -> Encoded | None:
        """What Envoy took last of a resource, as it may stay while it refuses what is wanted."""
        if good is None or "filter_chains" not in good.value:
            return good
        known = self._formers.get(name)
        if known is None or known[0] is not good or known[1] is not wanted:
            value = former(good.value, wanted.value)
            kept = good if value is good.value else encoded(LISTENER, value, self.encode)
            known = self._formers[name] = good, wanted, kept
        return known[2]

    def _stand_in(self, kind: str, wanted: Encoded, words: str) -> Encoded | None:
        key = kind, str(wanted.value.get("name"))
        if key not in self._stand_ins:
            made = stand_in(kind, wanted.value, words)
            if made is None:
                return None
            self._stand_ins[key] = encoded(kind, made, self.encode)
        return self._stand_ins[key]

    def stands_in(self, kind: str, sent: Encoded) -> bool:
        """Whether this is in place of something that Envoy never took, and worth less than what it may still have."""
        return self._stand_ins.get((kind, str(sent.value.get("name")))) is sent

    def former_shards(self, scopes: Iterable[str]) -> set[str]:
        """Which of these are scopes of shards that are no more, of tables that are there still."""
        wanted = self.resources[SCOPES]
        return {name for name in scopes if name not in wanted and table_of(name) in wanted}

    def of_former_shard(self, name: str) -> Encoded:
        """What its scope is from then on."""
        if name not in self._former_shards:
            self._former_shards[name] = encoded(SCOPES, scope_of_former(name), self.encode)
        return self._former_shards[name]

    def accept(self, kind: str, name: str, sent: Encoded) -> None:
        """Envoy took this one."""
        if self.stands_in(kind, sent):
            return
        self._good[kind, name] = sent
        refusal = self._refused.get((kind, name))
        if refusal is not None and refusal.version == sent.version:
            del self._refused[kind, name]
        case, wanted = self._cases.get((kind, name)), self.resources[kind].get(name)
        if case is not None and case.over and wanted is not None and wanted.version == sent.version:
            self._close(kind, name)
        self._keep_what_is_needed()

    def accept_known(self, kind: str, versions: Mapping[str, str]) -> None:
        """An Envoy that another control plane served before has these: what is wanted still is good, and is kept if it
        changes to something that is not.
        """
        wanted = self.resources[kind]
        for name, version in versions.items():
            if name in wanted and wanted[name].version == version:
                self.accept(kind, name, wanted[name])

    def refuse(self, kind: str, name: str, sent: Encoded, message: str, asker: Inquiry | None = None) -> None:
        """Envoy did not take this one and keeps what it had. asker: by whom it can be asked what it did not like."""
        told = shown(message, (secret.value for secret in self.resources[SECRET].values()))
        wanted = self.resources[kind].get(name)
        if wanted is None or asker is None or not divide(kind, wanted.value):
            if wanted is not None and wanted.version == sent.version:
                self._refused[kind, name] = _Refusal(sent.version, told, asker)
                self._keep_what_is_needed()
            return
        now = self.effective(kind, name)
        late = now is None or now.version != sent.version
        another = not late and self._askers.get((kind, name)) is not asker
        case = self._cases.get((kind, name)) or Case(kind, name, wanted, PROBE)
        case.refused(sent, self._good.get((kind, name)), told, late=late, by_another=another)
        if not case.over:
            self._cases[kind, name] = case
            if another:
                self._askers[kind, name] = asker
        self._keep_what_is_needed()

    def case_for(self, asker: Inquiry) -> Case | None:
        """A case that this one shall ask about. Whose asker has left is taken over."""
        for key, case in self._cases.items():
            if key not in self._askers and key in self._left:
                self._left.discard(key)
                case.doubt()
            if case.open and self._askers.setdefault(key, asker) is asker:
                return case
        return None

    def answered(self, asker: Inquiry, refused: str | None, *, final: bool = False) -> None:
        """What Envoy said to the question of the case that this one asks about. final: it cannot be asked at all."""
        case = self.case_for(asker)
        if case is None:
            return
        told = refused and shown(refused, (secret.value for secret in self.resources[SECRET].values()))
        if final:
            case.give_up(told or "")
        else:
            case.answer(told)
        self._keep_what_is_needed()

    def taken_away(self, kind: str, name: str) -> None:
        """An Envoy has been told that this is no more. Until then it has it, and it may be wanted again."""
        if name not in self.resources[kind]:
            self._good.pop((kind, name), None)

    def leave(self, asker: Inquiry) -> None:
        """Whom this one asked is gone, and what it refused another one may take."""
        for kind, name in list(self._good):
            self.taken_away(kind, name)
        self._left |= {key for key, other in self._askers.items() if other is asker}
        self._left &= self._cases.keys()
        for refusal in self._refused.values():
            if refusal.by is asker:
                refusal.by, refusal.retried = None, True
        self._askers = {key: other for key, other in self._askers.items() if other is not asker}

    def retry(self, kind: str, name: str) -> bool:
        """Send a refused one once more; until Envoy has said what it thinks, it counts as refused."""
        if (kind, name) not in self._refused:
            return False
        self._refused[kind, name].retried = True
        return True
