"""PriceList: what models cost at the backends of a namespace, in place of the catalogue's list prices."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, field

from kajitori.api.conditions import STATUS, ConditionsStatus
from kajitori.api.gateway.shared import ObjectName
from kajitori.api.kajitori_gateway.definition import definition
from kajitori.api.kajitori_gateway.names import Dollars
from kajitori.api.kubernetes.meta_v1 import ObjectMeta


class PriceEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """US dollars for a million tokens, as decimal numbers in quotes, such as "0.15".

    model: as the backend calls it, or the beginning of names followed by `*`. backend: an AIServiceBackend of the
    namespace; none means all of them. cachedInput, cacheCreationInput, reasoning: as input, or output, if not given.
    request: dollars for each request besides.
    """

    model: Annotated[str, Meta(min_length=1, max_length=253)]
    backend: ObjectName | None = None
    input: Dollars = "0"
    output: Dollars = "0"
    cached_input: Dollars | None = None
    cache_creation_input: Dollars | None = None
    reasoning: Dollars | None = None
    request: Dollars = "0"


class PriceListSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Prices; the first that fits holds. Of several lists the oldest comes first."""

    prices: Annotated[list[PriceEntry], Meta(min_length=1, max_length=1024)]


class PriceListStatus(ConditionsStatus, frozen=True, kw_only=True, rename="camel"):
    """Whether the prices are in use."""


class PriceList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What models cost."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PriceListSpec
    status: PriceListStatus | None = None


DEFINITIONS = (definition(PriceList, "pricelists", STATUS),)
