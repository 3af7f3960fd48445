"""How each of our own kinds is defined: group, version and category are the same for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kajitori.api.crd import AGE, Column, Definition, Version
from kajitori.api.kajitori_gateway import GROUP, VERSION

if TYPE_CHECKING:
    import msgspec


def definition(
    root: type[msgspec.Struct], plural: str, *columns: Column, short_names: tuple[str, ...] = ()
) -> Definition:
    """The definition of the kind that `root` is named after. columns: those before the age."""
    version = Version(name=VERSION, root=root, columns=(*columns, AGE))
    return Definition(
        group=GROUP,
        kind=root.__name__,
        plural=plural,
        short_names=short_names,
        categories=("kajitori",),
        versions=(version,),
    )
