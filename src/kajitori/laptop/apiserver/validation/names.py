"""Forms of names, labels and keys: each check gives the messages about a text, none when it is fine.

The forms are RFC 1123 and RFC 1035 labels and the Kubernetes documentation, "Object Names and IDs" and "Labels and
Selectors"; the wording is the published server's, which users search for. Answers are kept, since the same few
names and labels come with every request.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Messages = tuple[str, ...]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HEADER = "[-A-Za-z0-9]+"

_label = re.compile(_LABEL).fullmatch
_subdomain = re.compile(_SUBDOMAIN).fullmatch
_dns_1035 = re.compile(_DNS_1035).fullmatch
_key = re.compile(_KEY).fullmatch
_config_key = re.compile(_CONFIG_KEY).fullmatch
_header = re.compile(_HEADER).fullmatch

_EDGES = "must start and end with an alphanumeric character"


def _form(text: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def too_long(limit: int, unit: str = "bytes") -> str:
    return f"must be no more than {limit} {unit}"


_LABEL_TEXT = _form(
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and {_EDGES}",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_TEXT = _form(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and"
    f" {_EDGES}",
    _SUBDOMAIN,
    "example.com",
)
_DNS_1035_TEXT = _form(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
    " character, and end with an alphanumeric character",
    _DNS_1035,
    "my-name",
    "abc-123",
)
_KEY_TEXT = _form(
    f"must consist of alphanumeric characters, '-', '_' or '.', and {_EDGES}",
    _KEY,
    "MyName",
    "my.name",
    "123-abc",
)
_VALUE_TEXT = _form(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and"
    f" {_EDGES}",
    f"({_KEY})?",
    "MyValue",
    "my_value",
    "12345",
)
_CONFIG_KEY_TEXT = _form(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_HEADER_TEXT = _form(
    "a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER, "X-Header-Name"
)
_ENVIRONMENT_TEXT = (
    "a valid environment variable name must consist only of printable ASCII characters other than '='"
)


def _checked(text: str, matches: bool, limit: int, message: str, unit: str = "bytes") -> Messages:
    messages = () if len(text) <= limit else (too_long(limit, unit),)
    return messages if matches else (*messages, message)


@lru_cache(maxsize=4096)
def dns_label(text: str) -> Messages:
    """RFC 1123 label, up to 63 characters."""
    # What would be a subdomain has only its dots wrong.
    message = "must not contain dots" if _subdomain(text) else _LABEL_TEXT
    return _checked(text, bool(_label(text)), 63, message, "characters")


@lru_cache(maxsize=8192)
def dns_subdomain(text: str) -> Messages:
    """RFC 1123 subdomain, up to 253 characters."""
    return _checked(text, bool(_subdomain(text)), 253, _SUBDOMAIN_TEXT, "characters")


@lru_cache(maxsize=1024)
def dns_1035_label(text: str) -> Messages:
    """RFC 1035 label, up to 63 characters: starts with a letter."""
    return _checked(text, bool(_dns_1035(text)), 63, _DNS_1035_TEXT, "characters")


@lru_cache(maxsize=1024)
def path_segment(text: str) -> Messages:
    """A name that only has to fit into a URL, as roles have."""
    if text in (".", ".."):
        return (f"may not be '{text}'",)
    return tuple(f"may not contain '{mark}'" for mark in ("/", "%") if mark in text)


@lru_cache(maxsize=8192)
def label_key(text: str) -> Messages:
    """A key of labels, annotations and selectors: `name` or `prefix/name`."""
    prefix, slash, name = text.rpartition("/")
    messages: list[str] = []
    if "/" in prefix:
        return (
            f"a valid label key {_KEY_TEXT} with an optional DNS subdomain prefix and '/'"
            " (e.g. 'example.com/MyName')",
        )
    if slash:
        messages += (
            [f"prefix part {message}" for message in dns_subdomain(prefix)]
            if prefix
            else ["prefix part must be non-empty"]
        )
    if not name:
        messages.append("name part must be non-empty")
    elif len(name) > 63:
        messages.append(f"name part {too_long(63)}")
    if not _key(name):
        messages.append(f"name part {_KEY_TEXT}")
    return tuple(messages)


@lru_cache(maxsize=8192)
def label_value(text: str) -> Messages:
    return _checked(text, not text or bool(_key(text)), 63, _VALUE_TEXT)


@lru_cache(maxsize=1024)
def config_key(text: str) -> Messages:
    """A key of a ConfigMap or Secret, which may become a file name."""
    messages = list(_checked(text, bool(_config_key(text)), 253, _CONFIG_KEY_TEXT, "characters"))
    if text in (".", ".."):
        messages.append(f"must not be '{text}'")
    elif text.startswith(".."):
        messages.append("must not start with '..'")
    return tuple(messages)


@lru_cache(maxsize=2048)
def environment_name(text: str) -> Messages:
    if all(character.isascii() and character.isprintable() and character != "=" for character in text):
        return ()
    return (_ENVIRONMENT_TEXT,)


@lru_cache(maxsize=1024)
def header_name(text: str) -> Messages:
    return () if _header(text) else (_HEADER_TEXT,)


@lru_cache(maxsize=1024)
def port_name(text: str) -> Messages:
    """IANA service name: up to 15 letters, digits and hyphens, at least one letter."""
    messages: list[str] = []
    if len(text) > 15:
        messages.append(too_long(15, "characters"))
    if not re.fullmatch("[-a-z0-9]+", text):
        messages.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        messages.append("must contain at least one letter (a-z)")
    if "--" in text:
        messages.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        messages.append("must not begin or end with a hyphen")
    return tuple(messages)


def port_number(value: int) -> Messages:
    return () if 1 <= value <= 65535 else ("must be between 1 and 65535, inclusive",)


# How objects of a definition are called; everything else is called by a subdomain.
NAME_FORMS: dict[str, Callable[[str], Messages]] = {
    "io.k8s.api.core.v1.Namespace": dns_label,
    "io.k8s.api.core.v1.Service": dns_label,
    "io.k8s.api.apps.v1.StatefulSet": dns_label,
    "io.k8s.api.core.v1.Event": path_segment,
    "io.k8s.api.events.v1.Event": path_segment,
    "io.k8s.api.policy.v1.PodDisruptionBudget": path_segment,
    "io.k8s.api.certificates.v1.CertificateSigningRequest": path_segment,
    "io.k8s.api.rbac.v1.Role": path_segment,
    "io.k8s.api.rbac.v1.ClusterRole": path_segment,
    "io.k8s.api.rbac.v1.RoleBinding": path_segment,
    "io.k8s.api.rbac.v1.ClusterRoleBinding": path_segment,
}
