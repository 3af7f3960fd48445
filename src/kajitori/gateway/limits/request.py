"""What passes between the admission server, which Envoy asks, and the engine of limits, which decides.

A `Request` comes before anything is sent to a backend and gets a `Verdict`; a `Settlement` comes when the request
has ended, however it did. All of them are values: no I/O, no clock.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kajitori.gateway.accounting.costs import Usage

Dialect = Literal["openai", "anthropic", "cohere", "grpc"]


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request that wants to pass.

    id: `x-request-id`; a settlement names it again. route: AIGatewayRoute (or HTTPRoute) as namespace/name. rule: its
    number, empty if unknown. model: as asked for. key: APIKey as namespace/name. tenant: namespace/name. client: its
    address. headers: names in lower case, those that limits of the route select by. input_tokens: an estimate.
    output_tokens: the bound that the client asked for, None if it did not.
    """

    id: str
    route: str
    rule: str = ""
    model: str = ""
    key: str = ""
    tenant: str = ""
    client: str = ""
    method: str = ""
    path: str = ""
    headers: dict[str, str] = {}
    input_tokens: int = 0
    output_tokens: int | None = None
    dialect: Dialect = "openai"


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whether a request may pass.

    status: 200; 429 beyond a limit; 503 where a limit cannot be asked about and says to refuse then; 403 where a
    limit counts money and no price is known. message: names the limit and when it frees. limit: its name. retry_after_seconds: None
    if waiting does not help. headers: for the client, pass or refusal alike. exhausted: AIServiceBackends as
    namespace/name that have nothing left for this request, so it should go to another one; each with the seconds until it
    has, 0 if it never will.
    """

    allowed: bool
    status: int = 200
    message: str = ""
    limit: str = ""
    retry_after_seconds: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    exhausted: dict[str, int] = {}


ALLOWED = Verdict(allowed=True)


class Settlement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a request.

    answered: whether a backend began to answer with success; attempted: whether one was asked at all.
    overtaken: whether it is a leg that another one was faster than.
    refused_by: the limit, by its name, for which Envoy refused by itself.
    path: as limits have it, empty where it is forgotten.
    backend: which, as namespace/name, empty if none; backend_model: the model as it was called there.
    usage: as reported, or as far as it was seen; None if nothing is known. estimated: whether it was not reported.
    output_tokens_seen: of an answer that was cut before its usage came.
    began: when the request came in, in seconds since 1970, 0 if unknown.
    The rest: as in the request, for those that no reservation is known of.
    """

    id: str
    route: str = ""
    rule: str = ""
    model: str = ""
    key: str = ""
    tenant: str = ""
    client: str = ""
    method: str = ""
    path: str = ""
    answered: bool = False
    overtaken: bool = False
    attempted: bool = True
    refused_by: str = ""
    backend: str = ""
    backend_model: str = ""
    usage: Usage | None = None
    estimated: bool = False
    output_tokens_seen: int = 0
    began: float = 0.0
