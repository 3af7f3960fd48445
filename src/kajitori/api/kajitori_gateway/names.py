"""Texts that several of our kinds have alike."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

NamespacedName = Annotated[str, Meta(min_length=1, max_length=317, pattern=r"^([a-z0-9-]+/)?[a-z0-9.-]+$")]
"""An object, with its namespace where that is another one than one's own: `name` or `namespace/name`."""
Dollars = Annotated[str, Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$")]
"""US dollars as a decimal number in quotes, such as "12.50"."""
