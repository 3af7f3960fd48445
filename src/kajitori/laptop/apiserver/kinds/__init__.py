"""The kinds that the server serves, as data.

`Registry` holds the built-in kinds (read from the published schemas, with tables of what these leave out) and the
kinds of CustomResourceDefinitions as they come and go. Handlers look a kind up by group, version and plural and
then ask it; no handler knows a kind by name.
"""

from kajitori.laptop.apiserver.kinds.kind import (
    Context,
    Kind,
    ScalePaths,
    Subresource,
    UnknownField,
)
from kajitori.laptop.apiserver.kinds.registry import Registry

__all__ = ["Context", "Kind", "Registry", "ScalePaths", "Subresource", "UnknownField"]
