"""What of a shared resource Envoy refuses, and the resource without that. No I/O: who owns a `Case` carries its questions.

A resource that Envoy refuses goes on as it was taken last, while its parts are tried beside it in a resource that serves
nobody: those that changed first, all if it was none of these. Then it goes out again with the refused parts in a form that
Envoy takes. While a part is refused, what changes elsewhere goes out as ever; the part itself, when it changes, is tried
beside it before it goes out, so an object that is wrong in a new way each second holds up nobody.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from kajitori.base.errors import InvalidManifest
from kajitori.gateway.envoy.encoded import Encoded, encoded
from kajitori.gateway.envoy.former_chains import former_chain
from kajitori.gateway.envoy.forms import REST, Form, Part
from kajitori.gateway.envoy.part_states import Asked, Refused, State, Taken, ladder
from kajitori.gateway.envoy.parts import assemble, divide, sample
from kajitori.gateway.envoy.refused_part import RefusedPart, digest
from kajitori.gateway.envoy.search import Search
from kajitori.gateway.resources import LISTENER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.gateway.envoy.encoded import Encode

_MISSING = object()


class _Thing(NamedTuple):
    part: Part
    form: Form


class _Round:
    """One search among parts as they were when it began: an answer is about what was asked, whatever changes meanwhile."""

    def __init__(self, value: dict[str, Any], asked: dict[Part, Asked]) -> None:
        self.value = value
        self.asked = asked
        self.search = Search(tuple(_Thing(part, state.form) for part, state in asked.items()))


class Case:
    """One resource. probe: the name that a resource has which is only to be tried.

    `_states` has what is known of parts (`kajitori.gateway.envoy.part_states`), by the content that they have now. `_round` asks
    about some that are `Asked`. `_failed`: why Envoy refuses the resource for what is no part's own; then all stays as it was.
    """

    def __init__(self, kind: str, name: str, wanted: Encoded, probe: str) -> None:
        self.kind = kind
        self.name = name
        self._probe = probe
        self._ladder = ladder(kind)
        self._wanted = wanted
        self._contents = divide(kind, wanted.value)
        self._states: dict[Part, State] = {}
        self._round: _Round | None = None
        self._failed = ""
        self._made: tuple[str, frozenset[tuple[Part, Form]], Encoded] | None = None

    @property
    def open(self) -> bool:
        """Whether there is a question to ask."""
        return bool(self._asked)

    @property
    def over(self) -> bool:
        """Whether the resource as it is wanted may go out again."""
        return not self._failed and all(isinstance(state, Taken) for state in self._states.values())

    @property
    def fails(self) -> bool:
        """Whether it is refused as a whole."""
        return bool(self._failed)

    @property
    def holds_all(self) -> bool:
        """Whether nothing new of the resource goes out for now."""
        return bool(self._failed) or any(state.holds for state in self._asked.values())

    @property
    def rejected(self) -> dict[str, str]:
        """`type/name#place#unit` of each part that is refused, or `type/name` of all of it, and why."""
        key = f"{self.kind}/{self.name}"
        found = {key: self._failed} if self._failed else {}
        for (place, unit), state in self._states.items():
            told = state.earlier if isinstance(state, Asked) else state
            if isinstance(told, Refused) and not told.elsewhere:
                found[f"{key}#{place}#{unit}"] = told.told
        return found

    @property
    def _asked(self) -> dict[Part, Asked]:
        return {part: state for part, state in self._states.items() if isinstance(state, Asked)}

    def _as_wanted(self) -> list[Part]:
        """Parts that go out as they are wanted."""
        return [part for part in self._contents if isinstance(self._states.get(part), Taken | None)]

    def refused(
        self,
        sent: Encoded,
        before: Encoded | None,
        words: str,
        *,
        late: bool = False,
        by_another: bool = False,
    ) -> None:
        """Envoy did not take what was sent. before: what it took last. late: something else is to be sent by now.
        by_another: than the one that was asked until now, which may take other things.
        """
        if by_another:
            self._states = {
                part: state for part, state in self._states.items() if not isinstance(state, Taken)
            }
        had, got = (
            divide(self.kind, before.value) if before is not None else {},
            divide(self.kind, sent.value),
        )
        free = self._as_wanted()
        # New in what was refused, and other than before still.
        fresh = [
            part
            for part in free
            if had.get(part, _MISSING) not in (self._contents[part], got.get(part, _MISSING))
        ]
        untried = [part for part in free if part not in self._states]
        suspects = [part for part in fresh if part not in self._states] or ([] if late else untried)
        if suspects:
            for part in suspects:
                self._states[part] = Asked(self._contents[part], holds=True)
        elif late:
            return
        elif fresh and not self._failed:
            # Each is taken alone, but not all together: who changed has to wait.
            for part in fresh:
                self._settle(part, Refused(self._contents[part], self._ladder[1], words))
        else:
            self._failed = words

    def change(self, wanted: Encoded) -> bool:
        """The resource shall be this one now. False: it was before."""
        if wanted is self._wanted:
            return False
        self._wanted, self._failed = wanted, ""
        self._contents = divide(self.kind, wanted.value)
        for part, state in list(self._states.items()):
            content = self._contents.get(part, _MISSING)
            if content == state.content:
                continue
            after = state.after_change(content) if content is not _MISSING else None
            if after is None:
                del self._states[part]
            else:
                self._states[part] = after
        return True

    def doubt(self) -> None:
        """Who refused something is gone, so another one is asked about it; until then refused parts stay as they are."""
        self._failed = ""
        self._states = {
            part: state.doubted() if isinstance(state, Refused) else state
            for part, state in self._states.items()
        }

    def refused_parts(self, name: str) -> list[RefusedPart]:
        """What other replicas are told. name: of the resource there."""
        return [
            RefusedPart(self.kind, name, *part, digest(state.content), state.form.value)
            for part, state in self._states.items()
            if isinstance(state, Refused) and not state.elsewhere
        ]

    def heed(self, refused: Mapping[tuple[Part, str], RefusedPart]) -> None:
        """Leaves out what Envoys of other replicas refuse, as long as it is that, and nothing else of theirs.

        refused: by part and digest, since shards of one table may have different parts by the same name.
        """
        for part, state in list(self._states.items()):
            told = isinstance(state, Refused) and state.elsewhere
            if told and (part, digest(state.content)) not in refused:
                del self._states[part]
        for (part, refused_digest), each in refused.items():
            content = self._contents.get(part, _MISSING)
            if content is _MISSING or isinstance(self._states.get(part), Asked | Refused):
                continue
            if each.understood and digest(content) == refused_digest:
                self._states[part] = Refused(content, Form(each.form), "", elsewhere=True)

    def mend(self, encode: Encode) -> None:
        """Finds the parts that are no messages of Envoy at all, which nobody needs to be asked about."""
        suspects = self._as_wanted()
        for form, weaker in itertools.pairwise(self._ladder):
            search = Search(tuple(_Thing(part, form) for part in suspects))
            while things := search.asked():
                search.answer(self._problem(things, encode))
            for (part, _), words in search.found.items():
                self._settle(part, Refused(self._contents[part], weaker, words))
            suspects = [part for part, _ in search.found]

    def _problem(self, things: Iterable[_Thing], encode: Encode) -> str | None:
        try:
            encode(self.kind, sample(self.kind, self._probe, self._wanted.value, things))
        except InvalidManifest as error:
            return str(error)
        return None

    def question(self) -> dict[str, Any] | None:
        """What to try next, if anything is to be tried; the same until it is answered."""
        if self._round is not None and not any(map(self._is_now, self._round.asked.items())):
            self._round = None
        if self._round is None:
            asked = self._asked
            if not asked:
                return None
            urgent = {part: state for part, state in asked.items() if state.holds}
            self._round = _Round(self._wanted.value, urgent or asked)
        return sample(self.kind, self._probe, self._round.value, self._round.search.asked())

    def _is_now(self, known: tuple[Part, State]) -> bool:
        """Whether a part is in that very state, so that it has not changed, and not changed back."""
        return self._states.get(known[0]) is known[1]

    def answer(self, refused: str | None) -> None:
        """What Envoy says to the latest question: None that it takes it, else why not."""
        if self._round is not None:
            self._round.search.answer(refused)
            if not self._round.search.asked():
                self._conclude(self._round)
                self._round = None

    def _conclude(self, done: _Round) -> None:
        """What is known by a round; parts that changed since it began stay to be asked about."""
        # Then what was inferred of others may be due to what is there no more.
        moved = not all(map(self._is_now, done.asked.items()))
        for part, state in done.asked.items():
            thing = _Thing(part, state.form)
            if self._is_now((part, state)) and not (moved and thing in done.search.inferred):
                self._settle(part, state.answered(done.search.found.get(thing), self._ladder))

    def give_up(self, words: str) -> None:
        """Nothing can be tried, so all of it stays as it was."""
        self._round, self._failed = None, words
        self._states = {part: state for part, state in self._states.items() if not isinstance(state, Asked)}

    def _settle(self, part: Part, state: State) -> None:
        if part == REST and isinstance(state, Refused) and state.form is Form.OUT:
            self._states.pop(part, None)
            self._failed = state.words
        else:
            self._states[part] = state

    def of_before(self, before: Encoded | None) -> list[Any]:
        """What is in force that is not as it is wanted. before: what Envoy took last."""
        if before is None:
            return []
        if self.holds_all:
            return [before.value]
        had = divide(self.kind, before.value)
        kept = [part for part, state in self._states.items() if isinstance(state, Refused)]
        return [had[part] for part in kept if part in had]

    def served(self, before: Encoded | None, encode: Encode) -> Encoded | None:
        """What to send now. before: what Envoy took last."""
        if self.holds_all:
            return before
        forms = {
            part: state.form if isinstance(state, Refused) else Form.BEFORE
            for part, state in self._states.items()
            if not isinstance(state, Taken)
        }
        if not forms:
            return self._wanted
        key = frozenset(forms.items())
        if self._made is None or self._made[:2] != (self._wanted.version, key):
            taken = divide(self.kind, before.value) if before is not None else {}
            if self.kind == LISTENER:
                taken = {
                    part: former_chain(content, self._contents.get(part))
                    if isinstance(self._states.get(part), Refused)
                    else content
                    for part, content in taken.items()
                }
            value = assemble(self.kind, self._wanted.value, forms, taken)
            try:
                self._made = (self._wanted.version, key, encoded(self.kind, value, encode))
            except InvalidManifest as error:
                self.give_up(str(error))
                return before
        return self._made[2]
