"""What of a shared resource Envoy refuses, and the resource without that. No I/O: who owns a `Case` carries its questions.

A resource that Envoy refuses goes on as it was taken last, while its parts are tried beside it in a resource that serves
nobody: those that changed first, all if it was none of these. Then it goes out again with the refused parts in a form that
Envoy takes. While a part is refused, what changes elsewhere goes out as ever; the part itself, when it changes, is tried
beside it before it goes out, so an object that is wrong in a new way each second holds up nobody.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kajitori.base.errors import InvalidManifest
from kajitori.gateway.envoy.encoded import Encoded, encoded
from kajitori.gateway.envoy.forms import REST, Form, Part
from kajitori.gateway.envoy.parts import assemble, divide, sample
from kajitori.gateway.envoy.refused_part import RefusedPart, digest
from kajitori.gateway.envoy.search import Search
from kajitori.gateway.resources import ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kajitori.gateway.envoy.encoded import Encode

_MISSING = object()
# Of a route there can be an answer in its place; of other parts only what was there before.
_LADDERS = {ROUTES: (Form.FULL, Form.ANSWER, Form.OUT)}
_LADDER = (Form.FULL, Form.BEFORE)
_TOLD = {
    Form.ANSWER: "requests for it are answered with 500, since Envoy refuses it",
    Form.OUT: "it is left out, since Envoy refuses it and what it matches",
    Form.BEFORE: "what was in force before stays, if anything was, since Envoy refuses it",
}


class _Thing(NamedTuple):
    part: Part
    form: Form


class _Round:
    """One search, and what the parts were when it began."""

    def __init__(self, things: Iterable[_Thing], contents: dict[Part, Any], words: dict[Part, str]) -> None:
        self.things = tuple(things)
        self.contents = contents
        # Of the fuller form, which was refused before.
        self.words = words
        self.search = Search(self.things)


class Bad(msgspec.Struct, frozen=True):
    """A part that is refused. content: when it was. form: that is there in its place. words: Envoy's.

    elsewhere: by Envoys of another replica of the control plane, which tells of it itself.
    """

    content: Any
    form: Form
    words: str
    elsewhere: bool = False


class Case:
    """One resource. probe: the name that a resource has which is only to be tried.

    A part that was never doubted is in none of these: `_unknown`, while it is asked about in one of the `_rounds`, the latest first;
    then `_known`, with the content that was taken, or `_bad`. Of what was bad and has changed `_doubted` has what was said of it.
    While it `_waits` for the suspects of a refusal, or has `_failed` for what is no part's own, all stays as it was taken last.
    """

    def __init__(self, kind: str, name: str, wanted: Encoded, probe: str) -> None:
        self.kind = kind
        self.name = name
        self._probe = probe
        self._wanted = wanted
        self._contents = divide(kind, wanted.value)
        self._bad: dict[Part, Bad] = {}
        self._unknown: set[Part] = set()
        # What was said of parts that have changed since, until it is known what is to be said now.
        self._doubted: dict[Part, Bad] = {}
        self._known: dict[Part, Any] = {}
        self._rounds: list[_Round] = []
        self._waits = False
        self._failed = ""
        self._made: tuple[str, frozenset[tuple[Part, Form]], Encoded] | None = None

    @property
    def open(self) -> bool:
        """Whether there is a question to ask."""
        return bool(self._rounds)

    @property
    def over(self) -> bool:
        """Whether the resource as it is wanted may go out again."""
        return not (self._bad or self._unknown or self._failed)

    @property
    def holds_all(self) -> bool:
        """Whether nothing new of the resource goes out for now."""
        return self._waits or bool(self._failed)

    @property
    def rejected(self) -> dict[str, str]:
        """`type/name#place#unit` of each part that is refused, or `type/name` of all of it, and why."""
        key = f"{self.kind}/{self.name}"
        found = {
            f"{key}#{place}#{unit}": f"{_TOLD[bad.form]}: {bad.words}"
            for (place, unit), bad in (self._doubted | self._bad).items()
            if not bad.elsewhere
        }
        return found | ({key: self._failed} if self._failed else {})

    def refused(self, before: Encoded | None, words: str, *, by_another: bool = False) -> None:
        """Envoy did not take what was sent last. before: what it took last. by_another: than the one that was asked until now,
        which may take other things.
        """
        if by_another:
            self._known.clear()
        taken = divide(self.kind, before.value) if before is not None else {}
        free = [part for part in self._contents if part not in self._bad and part not in self._unknown]
        fresh = [part for part in free if taken.get(part, _MISSING) != self._contents[part]]
        untried = [part for part in free if self._known.get(part, _MISSING) != self._contents[part]]
        suspects = [part for part in fresh if part in untried] or untried
        if suspects:
            self._waits = True
            self._try(suspects)
        elif fresh and not self._failed:
            # Each is taken alone, but not all together: who changed has to wait.
            lowest = _LADDERS.get(self.kind, _LADDER)[1]
            self._bad |= {part: Bad(self._contents[part], lowest, words) for part in fresh}
        else:
            self._failed = words

    def change(self, wanted: Encoded) -> bool:
        """The resource shall be this one now. False: it was before."""
        if wanted is self._wanted:
            return False
        self._wanted, self._failed = wanted, ""
        self._contents = divide(self.kind, wanted.value)
        again: list[Part] = []
        for part, bad in list(self._bad.items()):
            content = self._contents.get(part, _MISSING)
            if content != bad.content:
                del self._bad[part]
                if content is not _MISSING and not bad.elsewhere:
                    again.append(part)
                    self._doubted[part] = bad
        self._unknown &= self._contents.keys()
        self._known = {part: content for part, content in self._known.items() if part in self._contents}
        self._doubted = {part: bad for part, bad in self._doubted.items() if part in self._contents}
        self._try(again)
        return True

    def refused_parts(self, name: str) -> list[RefusedPart]:
        """What other replicas are told. name: of the resource there."""
        return [
            RefusedPart(self.kind, name, *part, digest(bad.content), bad.form.value)
            for part, bad in self._bad.items()
            if not bad.elsewhere
        ]

    def heed(self, refused: Mapping[tuple[Part, str], RefusedPart]) -> None:
        """Leaves out what Envoys of other replicas refuse, as long as it is that, and nothing else of theirs.

        refused: by part and digest, since shards of one table may have different parts by the same name.
        """
        for part, bad in list(self._bad.items()):
            if bad.elsewhere and (part, digest(bad.content)) not in refused:
                del self._bad[part]
        for (part, refused_digest), told in refused.items():
            content = self._contents.get(part, _MISSING)
            if part in self._bad or part in self._unknown or content is _MISSING:
                continue
            if digest(content) == refused_digest:
                self._bad[part] = Bad(content, Form(told.form), "", elsewhere=True)

    def mend(self, encode: Encode) -> None:
        """Finds the parts that are no messages of Envoy at all, which nobody needs to be asked about."""
        ladder = _LADDERS.get(self.kind, _LADDER)
        suspects = [part for part in self._contents if part not in self._bad and part not in self._unknown]
        for form, weaker in itertools.pairwise(ladder):
            search = Search(tuple(_Thing(part, form) for part in suspects))
            while asked := search.asked():
                search.answer(self._problem(asked, encode))
            for thing, words in search.found.items():
                self._isolate(thing.part, weaker, words)
            suspects = [thing.part for thing in search.found]

    def _problem(self, asked: Iterable[_Thing], encode: Encode) -> str | None:
        try:
            encode(self.kind, sample(self.kind, self._probe, self._wanted.value, asked))
        except InvalidManifest as error:
            return str(error)
        return None

    def _try(self, parts: list[Part]) -> None:
        if parts:
            self._unknown |= set(parts)
            self._begin([_Thing(part, Form.FULL) for part in parts], {})

    def _begin(self, things: list[_Thing], words: dict[Part, str]) -> None:
        contents = {part: self._contents[part] for part, _ in things}
        self._rounds.append(_Round(things, contents, words))

    def question(self) -> dict[str, Any] | None:
        """What to try next, if anything is to be tried."""
        while self._rounds:
            current = self._rounds[-1]
            asked = [thing for thing in current.search.asked() if thing.part in self._contents]
            if asked:
                return sample(self.kind, self._probe, self._wanted.value, asked)
            if current.search.asked():
                current.search.answer(None)
            else:
                self._end()
        return None

    def answer(self, refused: str | None) -> None:
        """What Envoy says to the latest question: None that it takes it, else why not."""
        if self._rounds:
            self._rounds[-1].search.answer(refused)
            if not self._rounds[-1].search.asked():
                self._end()

    def _end(self) -> None:
        """Draws the conclusions of a round."""
        done = self._rounds.pop()
        ladder = _LADDERS.get(self.kind, _LADDER)
        weaker: list[_Thing] = []
        words: dict[Part, str] = {}
        changed: list[Part] = []
        # Then what was inferred of others may be due to what is there no more.
        moved = any(self._contents.get(part, _MISSING) != content for part, content in done.contents.items())
        for part, form in done.things:
            content = self._contents.get(part, _MISSING)
            if part not in self._unknown or content is _MISSING:
                continue
            thing = _Thing(part, form)
            told = done.search.found.get(thing)
            if content != done.contents[part] or (moved and thing in done.search.inferred):
                changed.append(part)
            elif told is None and form is Form.FULL:
                self._known[part] = content
                self._unknown.discard(part)
                self._doubted.pop(part, None)
            elif told is None:
                self._isolate(part, form, done.words[part])
            elif form is ladder[0] and len(ladder) > 2:
                weaker.append(_Thing(part, ladder[1]))
                words[part] = told
            else:
                self._isolate(part, ladder[-1], done.words.get(part, told))
        if weaker:
            self._begin(weaker, words)
        elif not self._rounds:
            self._waits = False
        # What changed meanwhile holds up nobody.
        self._try(changed)

    def give_up(self, words: str) -> None:
        """Nothing can be tried, so all of it stays as it was."""
        self._rounds.clear()
        self._unknown.clear()
        self._doubted.clear()
        self._waits, self._failed = False, words

    def _isolate(self, part: Part, form: Form, words: str) -> None:
        self._unknown.discard(part)
        self._doubted.pop(part, None)
        if part == REST and form is Form.OUT:
            self._failed = words
        else:
            self._bad[part] = Bad(self._contents[part], form, words)

    def served(self, before: Encoded | None, encode: Encode) -> Encoded | None:
        """What to send now. before: what Envoy took last."""
        if self.holds_all:
            return before
        forms = {part: bad.form for part, bad in self._bad.items()}
        forms |= dict.fromkeys(self._unknown, Form.BEFORE)
        if not forms:
            return self._wanted
        key = frozenset(forms.items())
        if self._made is None or self._made[:2] != (self._wanted.version, key):
            taken = divide(self.kind, before.value) if before is not None else {}
            value = assemble(self.kind, self._wanted.value, forms, taken)
            try:
                self._made = (self._wanted.version, key, encoded(self.kind, value, encode))
            except InvalidManifest as error:
                self.give_up(str(error))
                return before
        return self._made[2]
