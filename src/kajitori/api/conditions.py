"""Statuses that are a list of conditions, as most kinds of the gateway have."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Column, map_list
from kajitori.api.kubernetes.meta_v1 import Condition

Conditions = Annotated[list[Condition], Meta(max_length=8), map_list("type")]
STATUS = Column("Status", ".status.conditions[-1:].type")
"""What the last condition says, in the tables of `kubectl get` and `kaji get`."""


class ConditionsStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How things stand."""

    conditions: Conditions = field(default_factory=list)
