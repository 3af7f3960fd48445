"""The variables that clients of model providers read, to the objects of a gateway that leads there. Pure.

The names are those of the OpenAI, Azure OpenAI and Anthropic SDKs, and of `aigw run`: OPENAI_API_KEY, OPENAI_BASE_URL,
OPENAI_ORG_ID, OPENAI_PROJECT_ID; AZURE_OPENAI_API_KEY, AZURE_OPENAI_ENDPOINT, OPENAI_API_VERSION; ANTHROPIC_API_KEY,
ANTHROPIC_BASE_URL. Azure goes before OpenAI, since it needs a variable of OpenAI's name; Anthropic is served beside either.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kajitori.base.errors import UsageError

NAMESPACE = "default"
NAME = "kaji"
PORT = 1975
_GATEWAY = "gateway.networking.k8s.io"
_ENVOY = "gateway.envoyproxy.io"
_AI = "aigateway.envoyproxy.io"
_KEYS = ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")
Object = dict[str, Any]


def documents(variables: Mapping[str, str], port: int = PORT) -> list[Object]:
    """The objects. Raises UsageError where no provider's key is set, or one says too little."""
    if not any(variables.get(name) for name in _KEYS):
        raise UsageError(
            "there is nothing to serve: no file is given, and no provider's key is set",
            hint="kaji gateway run FILE, or set one of OPENAI_API_KEY, AZURE_OPENAI_API_KEY and ANTHROPIC_API_KEY",
        )
    found = _gateway(port)
    catch_all: list[Object] = []
    if variables.get("AZURE_OPENAI_API_KEY"):
        found += _azure(variables)
        catch_all.append(_rule("openai", ".*"))
    elif variables.get("OPENAI_API_KEY"):
        found += _openai(variables)
        catch_all.append(_rule("openai", ".*"))
    if variables.get("ANTHROPIC_API_KEY"):
        found += _anthropic(variables)
        catch_all.insert(0, _rule("anthropic", "claude.*" if catch_all else ".*"))
    costs = [
        {"metadataKey": "llm_input_token", "type": "InputToken"},
        {"metadataKey": "llm_output_token", "type": "OutputToken"},
    ]
    parents = [{"group": _GATEWAY, "kind": "Gateway", "name": NAME}]
    spec = {"parentRefs": parents, "rules": catch_all, "llmRequestCosts": costs}
    return [*found, _object(f"{_AI}/v1beta1", "AIGatewayRoute", NAME, spec=spec)]


def _object(api_version: str, kind: str, name: str, **rest: Any) -> Object:
    metadata: Object = {"name": name}
    if kind != "GatewayClass":
        metadata["namespace"] = NAMESPACE
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def _gateway(port: int) -> list[Object]:
    return [
        _object(f"{_GATEWAY}/v1", "GatewayClass", NAME, spec={"controllerName": "kajitori.dev/gateway-controller"}),
        _object(
            f"{_GATEWAY}/v1",
            "Gateway",
            NAME,
            spec={"gatewayClassName": NAME, "listeners": [{"name": "http", "protocol": "HTTP", "port": port}]},
        ),
    ]  # fmt: skip


def _rule(backend: str, pattern: str) -> Object:
    model = {"type": "RegularExpression", "name": "x-ai-eg-model", "value": pattern}
    # A long answer may take its time; what ends a request is silence.
    return {"matches": [{"headers": [model]}], "backendRefs": [{"name": backend}]}


def _openai(variables: Mapping[str, str]) -> list[Object]:
    url = variables.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    schema: Object = {"name": "OpenAI"}
    prefix = urlsplit(url).path.strip("/")
    if prefix not in ("", "v1"):
        schema["prefix"] = prefix
    return [
        *_backend("openai", "OPENAI_BASE_URL", url, schema, _openai_headers(variables)),
        *_key("openai", "APIKey", "apiKey", variables["OPENAI_API_KEY"]),
    ]


def _azure(variables: Mapping[str, str]) -> list[Object]:
    for name in ("AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION"):
        if not variables.get(name):
            raise UsageError(f"AZURE_OPENAI_API_KEY is set, and {name} is not", hint=f"set {name} as well")
    schema = {"name": "AzureOpenAI", "version": variables["OPENAI_API_VERSION"]}
    endpoint = variables["AZURE_OPENAI_ENDPOINT"]
    return [
        *_backend("openai", "AZURE_OPENAI_ENDPOINT", endpoint, schema, _openai_headers(variables)),
        *_key("openai", "AzureAPIKey", "azureAPIKey", variables["AZURE_OPENAI_API_KEY"]),
    ]


def _anthropic(variables: Mapping[str, str]) -> list[Object]:
    url = variables.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com/v1"
    schema: Object = {"name": "Anthropic"}
    prefix = urlsplit(url).path.strip("/")
    if prefix not in ("", "v1"):
        schema["prefix"] = prefix
    return [
        *_backend("anthropic", "ANTHROPIC_BASE_URL", url, schema, []),
        *_key("anthropic", "AnthropicAPIKey", "anthropicAPIKey", variables["ANTHROPIC_API_KEY"]),
    ]


def _openai_headers(variables: Mapping[str, str]) -> list[Object]:
    named = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
    return [
        {"name": header, "value": variables[name]} for header, name in named.items() if variables.get(name)
    ]


def _backend(name: str, variable: str, url: str, schema: Object, headers: list[Object]) -> list[Object]:
    host, port, tls = _place(variable, url)
    try:
        endpoint: Object = {"ip": {"address": str(ipaddress.ip_address(host)), "port": port}}
    except ValueError:
        endpoint = {"fqdn": {"hostname": host, "port": port}}
    backend: Object = {"endpoints": [endpoint]}
    if tls:
        backend["tls"] = {"wellKnownCACertificates": "System", "sni": host}
    spec: Object = {"schema": schema, "backendRef": {"group": _ENVOY, "kind": "Backend", "name": name}}
    if headers:
        spec["headerMutation"] = {"set": headers}
    return [
        _object(f"{_ENVOY}/v1alpha1", "Backend", name, spec=backend),
        _object(f"{_AI}/v1beta1", "AIServiceBackend", name, spec=spec),
    ]


def _place(variable: str, url: str) -> tuple[str, int, bool]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UsageError(f"{variable}={url} is not a URL such as https://api.example.com/v1")
    tls = parts.scheme == "https"
    return parts.hostname, port or (443 if tls else 80), tls


def _key(name: str, kind: str, member: str, value: str) -> list[Object]:
    target = {"group": _AI, "kind": "AIServiceBackend", "name": name}
    spec = {"targetRefs": [target], "type": kind, member: {"secretRef": {"name": f"{name}-key"}}}
    return [
        _object("v1", "Secret", f"{name}-key", type="Opaque", stringData={"apiKey": value}),
        _object(f"{_AI}/v1beta1", "BackendSecurityPolicy", f"{name}-key", spec=spec),
    ]
