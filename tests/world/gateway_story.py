"""One story of the gateway for every place that it runs in: an embedded cluster, a real one, and none.

A key, a model from Azure with OpenAI behind it, a budget in tokens. The official client asks; Azure's stand-in dies; the
budget ends; afterwards the objects and the commands tell what happened. A place says how things are done there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tests.world.conftest import free_port, wait_until

Object = dict[str, Any]
KEYS = {"azure": "key-of-azure", "openai": "sk-of-openai"}
BUDGET_TOKENS = 100
ANSWER_TOKENS = 19  # what a stand-in's usage says

MANIFEST = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: story, namespace: default}
spec:
  gatewayClassName: kajitori
  listeners: [{name: http, protocol: HTTP, port: PORT}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata:
  name: story
  namespace: default
  annotations: {gateway.kajitori.dev/api-keys: Required}
spec:
  parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: story}]
  llmRequestCosts: [{metadataKey: total, type: TotalToken}]
  rules:
  - matches: [{headers: [{type: Exact, name: x-ai-eg-model, value: story}]}]
    backendRefs:
    - {name: story-azure, priority: 0, modelNameOverride: gpt-4o}
    - {name: story-openai, priority: 1, modelNameOverride: gpt-4o}
---
apiVersion: gateway.kajitori.dev/v1alpha1
kind: AITrafficPolicy
metadata: {name: story, namespace: default}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIGatewayRoute, name: story}]
  decisionHeaders: OnRequest
---
apiVersion: gateway.kajitori.dev/v1alpha1
kind: Budget
metadata: {name: story, namespace: default}
spec:
  amount: {tokens: 100}
  window: {sliding: 24h}
"""
PROVIDER = """\
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: story-NAME, namespace: default}
spec:
  schema: SCHEMA
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: story-NAME}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: story-NAME, namespace: default}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: PORT}}]}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {name: story-NAME, namespace: default}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: story-NAME}]
  TYPE
---
apiVersion: v1
kind: Secret
metadata: {name: story-NAME, namespace: default}
stringData: {apiKey: KEY}
"""
TYPES = {
    "azure": (
        "{name: AzureOpenAI, version: 2025-01-01-preview}",
        "type: AzureAPIKey\n  azureAPIKey: {secretRef: {name: story-azure}}",
    ),
    "openai": ("{name: OpenAI}", "type: APIKey\n  apiKey: {secretRef: {name: story-openai}}"),
}

# Asks with the official client up to a number of times, and prints what became of each request.
ASK = """
import json, openai, sys
url, key, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=30)
for _ in range(times):
    try:
        answer = client.chat.completions.with_raw_response.create(
            model="story", messages=[{"role": "user", "content": "Hi."}], max_tokens=8,
            extra_headers={"x-gateway-decision": "show"})
        text = answer.parse().choices[0].message.content
        told = {"text": text, "backend": answer.headers.get("x-gateway-backend"), "id": answer.headers["x-request-id"]}
    except openai.APIStatusError as error:
        told = {"error": type(error).__name__, "message": error.message, "headers": dict(error.response.headers)}
    except openai.APIError as error:
        told = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(told))
    if "error" in told:
        break
"""


class Place(Protocol):
    """Where the gateway runs."""

    def apply(self, manifest: str) -> None: ...
    def url(self) -> str:
        """Of the Gateway `story`, with /v1."""
        ...

    def kaji(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]: ...
    def python(self, code: str, *arguments: str) -> str: ...
    def popen(self, *words: str) -> subprocess.Popen[str]: ...


def manifest(port: int, ports: dict[str, int]) -> str:
    text = MANIFEST.replace("PORT", str(port))
    for name, (schema, kind) in TYPES.items():
        one = PROVIDER.replace("NAME", name).replace("SCHEMA", schema).replace("TYPE", kind)
        text += one.replace("PORT", str(ports[name])).replace("KEY", KEYS[name])
    return text


@contextmanager
def providers(place: Place, ports: dict[str, int]) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The stand-ins, which refuse other keys, paths and versions than the providers would."""
    made = {
        name: place.popen(
            sys.executable, "-m", "tests.gateway.clients.stand_ins", name, str(port), KEYS[name]
        )
        for name, port in ports.items()
    }
    try:
        yield made
    finally:
        for process in made.values():
            process.kill()
            process.wait()


def tell(place: Place, port: int, *, envoys: int = 1) -> None:
    """The story from beginning to end. port: of the Gateway's listener. envoys: each of them counts for itself."""
    ports = {name: free_port() for name in KEYS}
    with providers(place, ports) as running:
        place.apply(manifest(port, ports))
        key = place.kaji("keys", "create", "reader", "--budget", "story").stdout.strip()
        url = place.url()

        def ask(times: int = 1, as_who: str = key) -> list[Object]:
            lines = place.python(ASK, url, as_who, str(times)).splitlines()
            return [json.loads(line) for line in lines]

        def answered() -> Object | None:
            (told,) = ask()
            return told if "text" in told else time.sleep(0.2)

        first = wait_until(answered, "the first provider answers")
        assert (first["text"], first["backend"]) == ("Hello there.", "default/story-azure")
        (stranger,) = ask(as_who="somebody")
        assert stranger["error"] == "AuthenticationError"
        running["azure"].kill()
        running["azure"].wait()
        *answers, refused = ask(times=10)
    assert {answer["backend"] for answer in answers} == {"default/story-openai"}
    # A client keeps to one Envoy while its connection holds; the first question may have gone to another.
    assert 1 <= len(answers) <= BUDGET_TOKENS // ANSWER_TOKENS - (envoys == 1)
    assert refused["error"] == "RateLimitError"
    assert "Budget default/story" in refused["message"]
    assert int(refused["headers"]["retry-after"]) > 0
    _check_what_is_told(place, str(answers[0]["id"]), 1 + len(answers))


def _check_what_is_told(place: Place, rescued: str, answers: int) -> None:
    """By the commands and by the objects. rescued: the id of a request that went on to the second provider."""

    def explained() -> str | None:
        done = place.kaji("explain", "request", rescued, check=False)
        return done.stdout if done.returncode == 0 else None

    story = wait_until(explained, "the ledger has the request", seconds=20)
    assert "story-azure" in story and "story-openai" in story
    assert not any(secret in story for secret in KEYS.values())

    def counted() -> list[Object]:
        rows = json.loads(place.kaji("usage", "--by", "backend,key", "-o", "json").stdout)["rows"]
        return [row for row in rows if row["key"] == "default/reader" and row["requests"]]

    def all_counted() -> bool:
        return sum(row["output_tokens"] for row in counted()) == 7 * answers

    wait_until(all_counted, "usage has every request", seconds=20)
    assert {row["backend"] for row in counted()} >= {"default/story-azure", "default/story-openai"}
    assert "Budget default/story" in place.kaji("budgets", "story").stdout
    for kind in ("aigatewayroute", "aitrafficpolicy", "budget", "httproute"):
        told = json.loads(place.kaji("get", kind, "story", "-o", "json").stdout)
        assert '"status": "True"' in json.dumps(told["status"]), told
    assert told["metadata"]["annotations"]["ai-gateway-generated"] == "true"
