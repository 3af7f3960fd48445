"""What a client wants to get: JSON or YAML; objects, metadata or a Table; indented for people.

A client that takes both protobuf and JSON gets JSON, which is how objects are stored; one that takes nothing but
protobuf gets that.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from kajitori.laptop.apiserver import status

PROTOBUF = "application/vnd.kubernetes.protobuf"
_META_VERSIONS = ("v1", "v1beta1")


class Output(NamedTuple):
    """form: `object`, `metadata`, `metadata-list` or `table`; yaml or protobuf instead of JSON."""

    form: str = "object"
    yaml: bool = False
    protobuf: bool = False


_JSON = ("application/json", "*/*")
_STREAMED = ("application/json;stream=watch", f"{PROTOBUF};stream=watch")
_FORMS = {
    "Table": "table",
    "PartialObjectMetadata": "metadata",
    "PartialObjectMetadataList": "metadata-list",
}
_PROTOBUF_FORMS = {
    "": Output(protobuf=True),
    "PartialObjectMetadata": Output("metadata", protobuf=True),
    "PartialObjectMetadataList": Output("metadata-list", protobuf=True),
}


def media_range(item: str) -> tuple[str, dict[str, str]]:
    """One item of an Accept header: its type and its parameters."""
    media_type, *parameters = item.split(";")
    options: dict[str, str] = {}
    for parameter in parameters:
        key, _, value = parameter.strip().partition("=")
        options[key] = value
    return media_type.strip(), options


@lru_cache(maxsize=512)
def negotiate(accept: str, *, custom: bool = False, many: bool = False) -> Output:
    """The first of the client's wishes that can be had, protobuf only for want of others.

    custom: the resource is a custom one, which has no form in protobuf. many: it is a list or a watch. Raises
    StatusError 406.
    """
    if not accept:
        return Output()
    transformed = custom
    binary: Output | None = None
    for item in accept.split(","):
        media_type, options = media_range(item)
        wanted = options.get("as", "")
        if media_type in _JSON or media_type == "application/yaml":
            found = _text_form(wanted, options, media_type == "application/yaml")
        elif media_type == PROTOBUF:
            found = None
            binary = binary or _PROTOBUF_FORMS.get(wanted)
        else:
            continue
        transformed = transformed or bool(wanted)
        if found is not None:
            return found
    if binary is not None and not (custom and binary.form == "object"):
        return binary
    if transformed:
        raise status.not_acceptable()
    raise status.not_acceptable(*(_STREAMED if many else ()), transformed=False)


def _text_form(wanted: str, options: dict[str, str], yaml: bool) -> Output | None:
    """JSON or YAML of an object, or of what an object is to be shown as; None for what is not known."""
    if not wanted:
        return Output(yaml=yaml)
    form = _FORMS.get(wanted)
    if form is None or options.get("g") != "meta.k8s.io" or options.get("v") not in _META_VERSIONS:
        return None
    return Output(form, yaml)


def wants_indentation(user_agent: str, pretty: str) -> bool:
    """People with curl get indented JSON."""
    if pretty:
        return pretty not in ("false", "0")
    return user_agent.startswith(("curl", "Wget", "Mozilla"))
