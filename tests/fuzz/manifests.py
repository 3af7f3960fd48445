"""Objects at random that an API server takes: made from the schemas of our definitions, with values that nobody would write."""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any

from kajitori.api.crds import all_crds
from kajitori.laptop.apiserver.crd.structural import StructuralSchema

FUZZED = (
    "AIGatewayRoute", "AIServiceBackend", "AITrafficPolicy", "APIKey", "Backend", "BackendSecurityPolicy", "BackendTLSPolicy",
    "BackendTrafficPolicy", "Budget", "ClientTrafficPolicy", "EnvoyProxy", "GRPCRoute", "GatewayConfig", "HTTPRoute",
    "HTTPRouteFilter", "PriceList", "QuotaPolicy", "ReferenceGrant", "SecurityPolicy", "Tenant",
)  # fmt: skip
"""Kinds of the gateway, all that a user may write."""
_ODD = (
    "", "a", "b", "x-a", "X-Ai-Eg-Model", "gpt-4o", "%", "100%", "%REQ(authorization)%", "%ENVIRONMENT(HOME)%", "a b", "a\nb",
    "a\r\nx: y", "\x1e\x1f", "ü", "(", "[a", "(?=a)", "(a+)+$", "*", "*.test", "a.test", "a..b", "/", "//", "/a", "/{id}",
    "/a/../b", "?", "#", "a:b", ":path", "host", "Host", "content-length", "transfer-encoding", "cookie", "x-request-id",
    "1s", "0s", "1ns", "0.5s", "1h", "99999h", "10m", "-1s", "1Ki", "0", "5Gi", "99999999Ti", "10.0.0.0/8", "10.0.0.0/99",
    "::/0", "127.0.0.1", "256.1.1.1", "http://a", "https://a.test/x", "http://[", "ftp://a", "http://a:99999", "{}", "[]",
    "null", "{\"keys\":[]}", "{\"keys\":[{}]}", "1", "-1", "1.5", "1e309", "NaN", "input_tokens", "input_tokens / 0u",
    "'x'", "Europe/Berlin", "Gzip", "GET", "get", "HTTP", "r", "key", "default", "kajitori", "gateway", "Exact",
    "\\1", "\\9", "x" * 300, "TLSv1_2", "ECDHE-RSA-AES128-GCM-SHA256", "X25519", "nonsense",
)  # fmt: skip
_NUMBERS = (
    0,
    1,
    2,
    5,
    80,
    100,
    101,
    200,
    404,
    500,
    599,
    600,
    1000,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    -1,
)
# So that references lead somewhere more often than not.
_LIKELY = {
    "name": ("a", "b", "r", "plain", "filter", "key", "map", "gateway", "x-a"),
    "namespace": ("default", "default", "other"),
    "kind": ("Backend", "Service", "AIServiceBackend", "Gateway", "HTTPRoute", "GRPCRoute", "Secret", "ConfigMap", "HTTPRouteFilter"),
    "group": ("gateway.envoyproxy.io", "", "gateway.networking.k8s.io", "aigateway.envoyproxy.io"),
    "sectionName": ("http", "a"),
    "port": (80, 8080, 443),
}  # fmt: skip
_DEEPEST = 12
_TRIES = 30


@cache
def schema_of(kind: str) -> StructuralSchema:
    """Of the version that is stored."""
    crd = next(crd for crd in all_crds() if crd["spec"]["names"]["kind"] == kind)
    version = next(version for version in crd["spec"]["versions"] if version["storage"])
    return StructuralSchema(version["schema"]["openAPIV3Schema"])


class Maker:
    """Makes objects by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def objects(self, count: int) -> list[dict[str, Any]]:
        """Some of any kind, all of which the API server takes."""
        found: list[dict[str, Any]] = []
        for number in range(count):
            kind = self._random.choice(FUZZED)
            name = "filter" if kind == "HTTPRouteFilter" else f"fuzz-{number}"
            made = next((made for _ in range(_TRIES) if (made := self._object(kind, name))), None)
            if made is not None and (
                kind != "HTTPRouteFilter" or not any(item["kind"] == kind for item in found)
            ):
                found.append(made)
        return found

    def _object(self, kind: str, name: str) -> dict[str, Any] | None:
        """None where what was made is not taken."""
        schema = schema_of(kind)
        made = self._value(schema.raw["properties"]["spec"], "spec", 0)
        if not isinstance(made, dict):
            return None
        self._aim(kind, made)
        found = schema.default(
            {"kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": made}
        )
        return None if schema.validate(found) else found

    def _aim(self, kind: str, spec: dict[str, Any]) -> None:
        """At what is there, most of the time."""
        if self._random.random() < 0.1:
            return
        if "parentRefs" in schema_of(kind).raw["properties"]["spec"]["properties"]:
            spec["parentRefs"] = [
                {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}
            ]
        if kind in ("SecurityPolicy", "BackendTrafficPolicy", "ClientTrafficPolicy"):
            spec.pop("targetSelectors", None)
            spec.pop("targetRef", None)
            route = kind != "ClientTrafficPolicy" and self._random.choice(("r", "plain", ""))
            target = {"kind": "HTTPRoute", "name": route} if route else {"kind": "Gateway", "name": "gateway"}
            spec["targetRefs"] = [{"group": "gateway.networking.k8s.io", **target}]
        if kind == "AITrafficPolicy":
            spec["targetRefs"] = [{"group": "aigateway.envoyproxy.io", "kind": "AIGatewayRoute", "name": "r"}]
        if kind in ("BackendSecurityPolicy", "QuotaPolicy"):
            spec["targetRefs"] = [
                {"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "a"}
            ]

    def _value(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        choose = self._random.choice
        if "enum" in schema:
            return choose(schema["enum"])
        if schema.get("x-kubernetes-int-or-string"):
            return choose(_ODD + _NUMBERS)
        match schema.get("type"):
            case "object":
                return self._members(schema, depth)
            case "array":
                count = self._random.randint(
                    schema.get("minItems", 0), 2 if depth < _DEEPEST else schema.get("minItems", 0)
                )
                return [self._value(schema["items"], name, depth + 1) for _ in range(count)]
            case "string":
                return self._text(schema, name)
            case "boolean":
                return choose((True, False))
            case "integer":
                return self._number(schema, name)
            case "number":
                return choose((0.0, 0.5, 1.0, 100.0, 1e18))
            case _:
                return choose((None, "a", 1, {}, []))

    def _members(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        members: dict[str, Any] = schema.get("properties", {})
        required = schema.get("required", ())
        share = 0.0 if depth >= _DEEPEST else self._random.choice((0.15, 0.4, 0.8))
        found = {
            name: self._value(member, name, depth + 1)
            for name, member in members.items()
            if name in required or self._random.random() < share
        }
        if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
            found[self._random.choice(("a", "x-a"))] = self._value(
                schema["additionalProperties"], "", depth + 1
            )
        return found

    def _text(self, schema: dict[str, Any], name: str) -> str:
        texts = _LIKELY[name] if name in _LIKELY and name != "port" and self._random.random() < 0.6 else _ODD
        fits = [text for text in texts if isinstance(text, str) and _fits(schema, text)] or [
            text for text in _ODD if _fits(schema, text)
        ]
        return self._random.choice(fits) if fits else "a"

    def _number(self, schema: dict[str, Any], name: str) -> int:
        low, high = (
            schema.get("minimum", -(2**31)),
            schema.get("maximum", 2**31 - 1 if schema.get("format") == "int32" else 2**53),
        )
        numbers = _LIKELY["port"] if name == "port" else _NUMBERS
        fits = [number for number in (*numbers, low, high) if low <= number <= high]
        return int(self._random.choice(fits))


def _fits(schema: dict[str, Any], text: str) -> bool:
    long_enough = schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 10**9)
    return long_enough and ("pattern" not in schema or re.search(schema["pattern"], text) is not None)
