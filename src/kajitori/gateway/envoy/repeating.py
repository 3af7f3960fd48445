"""What is sent again of a resource that Envoy may have refused. Pure.

Secrets and filters of their own (SDS, ECDS) it looks at once: the very same content is acknowledged the second time, though
it was refused and is not in force. Tried on the binary; clusters, listeners, routes and endpoints it refuses each time. So filters
go out one by one from the start, and secrets are written a little otherwise when they are sent to find out which was meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from kajitori.gateway.resources import EXTENSION, SECRET

if TYPE_CHECKING:
    from kajitori.gateway.envoy.encoded import Encode, Encoded

# Of what only one is sent at a time.
LOOKED_AT_ONCE = (EXTENSION,)
# Of what it acknowledges the content that it refused last.
ACKNOWLEDGED_AGAIN = (EXTENSION, SECRET)


def written_otherwise(kind: str, resource: Encoded, encode: Encode) -> Encoded:
    """The same meaning and version in other bytes, of what can be written otherwise: certificates and keys."""
    if kind != SECRET or "generic_secret" in resource.value:
        return resource
    return msgspec.structs.replace(resource, data=encode(kind, _with_an_end_of_line(resource.value)))


def _with_an_end_of_line(value: Any) -> Any:
    """Every text in it gets one more at its end."""
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, Any]", value)
    return {
        key: f"{item}\n" if key == "inline_string" else _with_an_end_of_line(item)
        for key, item in members.items()
    }
