"""Whose an object is, whichever projection it was decoded into. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Owner(Protocol):
    @property
    def uid(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def controller(self) -> bool | None: ...


class Metadata(Protocol):
    """What every projection keeps of an object's metadata."""

    # As for `control.cache`, which would bring a client along into the command line.
    @property
    def name(self) -> str | None: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def uid(self) -> str | None: ...
    @property
    def resource_version(self) -> str | None: ...
    @property
    def owner_references(self) -> Sequence[Owner]: ...


def controller_of(metadata: Metadata) -> Owner | None:
    """The owner that manages the object, if any."""
    return next((owner for owner in metadata.owner_references if owner.controller), None)


def controlled_by(metadata: Metadata, uid: str) -> bool:
    """Whether the object of this uid manages it."""
    owner = controller_of(metadata)
    return owner is not None and owner.uid == uid


def holder_of(metadata: Metadata) -> str:
    """Whose the object is, in words."""
    owner = controller_of(metadata)
    return f"of {owner.kind} {owner.name}" if owner else "of somebody else"
