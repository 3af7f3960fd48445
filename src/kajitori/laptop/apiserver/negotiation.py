"""What a client wants to get: JSON or YAML; objects, metadata or a Table; indented for people.

Protobuf answers are not offered: every client that asks for them takes JSON as well. Protobuf bodies are read
(`decode`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from kajitori.laptop.apiserver import status

_META_VERSIONS = ("v1", "v1beta1")


class Output(NamedTuple):
    """form: `object`, `metadata`, `metadata-list` or `table`; yaml instead of JSON."""

    form: str = "object"
    yaml: bool = False


def media_range(item: str) -> tuple[str, dict[str, str]]:
    """One item of an Accept header: its type and its parameters."""
    media_type, *parameters = item.split(";")
    options: dict[str, str] = {}
    for parameter in parameters:
        key, _, value = parameter.strip().partition("=")
        options[key] = value
    return media_type.strip(), options


@lru_cache(maxsize=512)
def negotiate(accept: str) -> Output:
    """The first of the client's wishes that can be had. Raises StatusError 406."""
    if not accept:
        return Output()
    transformed = False
    for item in accept.split(","):
        media_type, options = media_range(item)
        if media_type in ("application/json", "*/*", "application/*"):
            yaml = False
        elif media_type == "application/yaml":
            yaml = True
        else:
            continue
        wanted = options.get("as", "")
        if not wanted:
            return Output(yaml=yaml)
        transformed = True
        if options.get("g", "") != "meta.k8s.io" or options.get("v", "") not in _META_VERSIONS:
            continue
        if wanted == "Table":
            return Output("table", yaml)
        if wanted == "PartialObjectMetadata":
            return Output("metadata", yaml)
        if wanted == "PartialObjectMetadataList":
            return Output("metadata-list", yaml)
    if transformed:
        raise status.not_acceptable(
            "application/json, application/yaml, application/json;as=Table;v=v1;g=meta.k8s.io, "
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
        )
    raise status.not_acceptable()


def wants_indentation(user_agent: str, pretty: str) -> bool:
    """People with curl get indented JSON."""
    if pretty:
        return pretty not in ("false", "0")
    return user_agent.startswith(("curl", "Wget", "Mozilla"))
