"""What Envoy's response flags say of a request, in words. Pure."""

from __future__ import annotations

_WORDS = {
    "-": "",
    "LH": "no healthy host",
    "UH": "no healthy host",
    "UT": "timeout",
    "LR": "connection reset locally",
    "UR": "connection reset by the backend",
    "UF": "connection failure",
    "UC": "connection closed by the backend",
    "UO": "too many requests open",
    "NR": "no route",
    "DI": "",
    "FI": "fault injected",
    "RL": "rate limited",
    "UAEX": "refused by admission",
    "RLSE": "rate limits not to be asked",
    "DC": "client left",
    "URX": "retries exhausted",
    "SI": "no progress for too long",
    "IH": "malformed request",
    "DPE": "malformed request",
    "UPE": "broken or malformed answer",
    "UMSDR": "took too long",
    "DT": "took too long",
    "RFCF": "",
    "NC": "no such cluster",
    "OM": "gateway overloaded",
    "DF": "name not resolved",
    "DR": "client left",
}
# Ours: what Envoy says of a leg of a hedged request that was not waited for is what it says when a client leaves.
OVERTAKEN = "KO"
_WORDS[OVERTAKEN] = "overtaken"
NO_HOST = _WORDS["UH"]
CLIENT_LEFT = _WORDS["DC"]
WAS_OVERTAKEN = _WORDS[OVERTAKEN]
# How a session over a WebSocket ends, whoever closes it.
_SESSION, _CLOSED = "101", ("UC", "DC")
# What a script says in the decision of a leg, see lua/order.lua.
HEDGED = "hedged, request "


def of_leg(flags: str, decision: str, status: str) -> str:
    """The flags of a request's line, or that it was a leg which another one was faster than, or whose client left before any
    answered.
    """
    return OVERTAKEN if flags == "DC" and status == "0" and HEDGED in decision else flags


def outcome_of(flags: str, status: str) -> str:
    """The flags of a line, between commas, in words; empty if they say nothing of a failure."""
    if status == _SESSION and flags in _CLOSED:
        return ""
    words = [_WORDS.get(flag, flag) for flag in flags.split(",")]
    return ", ".join(dict.fromkeys(word for word in words if word))
