"""What is known of one part of a resource of which Envoy refused something, and what becomes of that. Pure.

A part of which nothing is known goes out as it is wanted. Else it is in one of three states, each with the content that it
speaks of: what is said of one content never holds for another.

    (nothing known) --it is suspected--> Asked --Envoy takes it--> Taken --it changes--> (nothing known)
                                          |  ^
                    Envoy refuses it, and |  | it changes
             nothing weaker is left to ask|  |
                                          v  |
                                        Refused

While it is Asked the part is there as it was before, while it is Refused in a weaker form, and while it is Taken as it is wanted.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kajitori.gateway.envoy.forms import Form
from kajitori.gateway.resources import ROUTES

# From all of a part to what needs no question. Of a route there can be an answer in its place; of other parts only what was there.
_LADDERS = {ROUTES: (Form.FULL, Form.ANSWER, Form.OUT)}
_LADDER = (Form.FULL, Form.BEFORE)
_TOLD = {
    Form.ANSWER: "requests for it are answered with 500, since Envoy refuses it",
    Form.OUT: "it is left out, since Envoy refuses it and what it matches",
    Form.BEFORE: "what was in force before stays, if anything was, since Envoy refuses it",
}


def ladder(kind: str) -> tuple[Form, ...]:
    """The forms that a part of such a resource may have, each weaker than the one before."""
    return _LADDERS.get(kind, _LADDER)


class Taken(msgspec.Struct, frozen=True, eq=False):
    """Envoy takes it, alone and with others that it was asked about."""

    content: Any

    def after_change(self, content: Any) -> State | None:
        return None


class Refused(msgspec.Struct, frozen=True, eq=False):
    """form: that is there in its place. words: Envoy's.

    elsewhere: it is an Envoy of another replica of the control plane that refuses it, and that replica tells of it.
    """

    content: Any
    form: Form
    words: str
    elsewhere: bool = False

    @property
    def told(self) -> str:
        """What its owner is told."""
        return f"{_TOLD[self.form]}: {self.words}"

    def after_change(self, content: Any) -> State | None:
        return None if self.elsewhere else Asked(content, earlier=self)

    def doubted(self) -> State:
        """Whom it was asked is gone: another one may take it."""
        return self if self.elsewhere else Asked(self.content, earlier=self)


class Asked(msgspec.Struct, frozen=True, eq=False):
    """Envoy is asked about it, or will be. form: in which. words: why it refused a fuller form of the same.

    earlier: what was found of an earlier content, which is told until it is known what is to be told now. holds: the whole
    resource waits for the answer.
    """

    content: Any
    form: Form = Form.FULL
    words: str = ""
    earlier: Refused | None = None
    holds: bool = False

    def after_change(self, content: Any) -> State | None:
        """What changes while it is asked about is asked about anew, and nobody waits for that."""
        return Asked(content, earlier=self.earlier)

    def answered(self, refused: str | None, ladder: tuple[Form, ...]) -> State:
        """What it is when Envoy has answered. refused: why not, None if it takes it."""
        if refused is None:
            return Taken(self.content) if self.form is Form.FULL else self._refused(self.form, self.words)
        weaker, words = ladder[ladder.index(self.form) + 1], self.words or refused
        if weaker is ladder[-1]:
            return self._refused(weaker, words)
        return msgspec.structs.replace(self, form=weaker, words=words)

    def _refused(self, form: Form, words: str) -> Refused:
        return Refused(self.content, form, words)


State = Taken | Asked | Refused
