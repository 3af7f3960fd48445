"""A refused part as replicas of the control plane tell it each other. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from kajitori.gateway.envoy.forms import Form, Part
from kajitori.gateway.envoy.part_states import ladder


class RefusedPart(msgspec.Struct, frozen=True, array_like=True):
    """kind, name: of the resource. place, unit: of the part in it. digest: of what was refused. form: what stands in its place."""

    kind: str
    name: str
    place: str
    unit: str
    digest: str
    form: int

    @property
    def part(self) -> Part:
        return self.place, self.unit

    @property
    def understood(self) -> bool:
        """Whether there is such a form of such a part here: a newer replica may know others."""
        return self.form in {form.value for form in ladder(self.kind) if form is not Form.FULL}


def digest(content: Any) -> str:
    """The same for the same content in all processes."""
    return hashlib.blake2b(msgspec.json.encode(content, order="sorted"), digest_size=12).hexdigest()
