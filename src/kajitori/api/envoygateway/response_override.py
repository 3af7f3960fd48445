"""`responseOverride`: answers that are given instead of others.

Fields, defaults and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Int32, extra, rule
from kajitori.api.gateway.shared import HeaderName, Hostname, ObjectName, PortNumber


class StatusCodeRange(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """From start to end, both included."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [rule("self.end > self.start", "end is greater than start")]
    }
    start: int
    end: int


class StatusCodeMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One status, or a range of them."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(!has(self.type) || self.type == 'Value') ? has(self.value) : true", "type Value needs value"
            ),
            rule(
                "(has(self.type) && self.type == 'Range') ? has(self.range) : true", "type Range needs range"
            ),
        ]
    }
    type: Literal["Value", "Range"] = "Value"
    value: int | None = None
    range: StatusCodeRange | None = None


class StringMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a text is compared."""

    type: Literal["Exact", "Prefix", "Suffix", "RegularExpression"] = "Exact"
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


class ResponseHeaderMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header of the answer."""

    name: HeaderName
    value: StringMatch


class ResponseMatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One of the statuses, and all of the headers."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("has(self.statusCodes) || has(self.responseHeaders)", "give statusCodes or responseHeaders")
        ]
    }
    status_codes: Annotated[list[StatusCodeMatch], Meta(max_length=50)] = field(default_factory=list)
    response_headers: Annotated[list[ResponseHeaderMatch], Meta(max_length=16)] = field(default_factory=list)


class ConfigMapReference(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A ConfigMap in the policy's namespace; its key `response.body`, or its only one, is the body."""

    group: str = ""
    kind: str
    name: ObjectName


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A text, or where it stands."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(!has(self.type) || self.type == 'Inline') ? has(self.inline) : true",
                "type Inline needs inline",
            ),
            rule(
                "(has(self.type) && self.type == 'ValueRef') ? has(self.valueRef) : true",
                "type ValueRef needs valueRef",
            ),
            rule(
                "has(self.valueRef) ? self.valueRef.kind == 'ConfigMap' : true", "valueRef is to a ConfigMap"
            ),
        ]
    }
    type: Literal["Inline", "ValueRef"] = "Inline"
    inline: str | None = None
    value_ref: ConfigMapReference | None = None


class AnswerHeader(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header with its value."""

    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class AnswerHeaders(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Headers of the answer. remove: none can be taken away from it."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("!has(self.remove) || size(self.remove) == 0", "headers of such an answer cannot be removed")
        ]
    }
    set: Annotated[list[AnswerHeader], Meta(max_length=16)] = field(default_factory=list)
    add: Annotated[list[AnswerHeader], Meta(max_length=16)] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)


class CustomResponse(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The answer that is given."""

    content_type: str | None = None
    body: ResponseBody | None = None
    status_code: int | None = None
    header: AnswerHeaders | None = None


class RedirectPath(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The path of the place to go to."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None


class CustomRedirect(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the answer is fetched instead."""

    scheme: Literal["http", "https"] | None = None
    hostname: Hostname | None = None
    path: RedirectPath | None = None
    port: PortNumber | None = None
    status_code: Annotated[Int32, extra(enum=[301, 302])] = 302


class ResponseOverride(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which answers, and what is given instead. source: answers of the gateway itself, of backends, or both."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("has(self.response) != has(self.redirect)", "give exactly one of response and redirect")
        ]
    }
    match: ResponseMatch
    response: CustomResponse | None = None
    redirect: CustomRedirect | None = None
    source: Literal["All", "Local", "Backend"] | None = None
