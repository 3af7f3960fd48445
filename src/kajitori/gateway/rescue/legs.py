"""The headers by which legs of a request pass between Envoy and the relay, or from Envoy to its inner listener.

None comes from a client or goes to a backend.
"""

from __future__ import annotations

# Of the route that the request was given, so that each leg is served by the same one.
ROUTE = "x-kajitori-route"
# What shall follow a stream that dies: `Error`, `Continue` or `ContinueFinalMessage`.
MODE = "x-kajitori-rescue"
# Seconds for which an answer may stand still, 0 for no bound.
SILENCE = "x-kajitori-silence"
# Number of the leg, 1 for the first.
LEG = "x-kajitori-leg"
# Clusters of Envoy that shall not be tried again, parted by commas.
EXCLUDED = "x-kajitori-excluded"
# Which cluster answered, on a leg's answer.
CLUSTER = "x-kajitori-cluster"
ID = "x-request-id"
# The address of whoever asked first.
CLIENT = "x-kajitori-client"
# Number of the leg of a hedged request, 1 for the first; of its answer with the status behind it.
HEDGE = "x-kajitori-hedge"
# Of Envoy, on the way to the relay, and to its inner listener for hedged requests.
RESCUE_CLUSTER = "kajitori-rescue"
HEDGE_CLUSTER = "kajitori-hedge"
CLUSTERS = frozenset({RESCUE_CLUSTER, HEDGE_CLUSTER})
# Of a stream; a hedged request may have one more.
MOST_LEGS = 3
MOST_HEDGED_LEGS = 4
# Between the id of a request and the number of a further leg.
LEG_MARK = "~"


def leg_id(request_id: str, leg: int) -> str:
    """The request id of a leg: the first has the request's own."""
    return request_id if leg == 1 else f"{request_id}{LEG_MARK}{leg}"


def base_id(request_id: str) -> str:
    """The id of the request that a further leg is of; empty for any other id."""
    base, mark, _ = request_id.partition(LEG_MARK)
    return base if mark else ""


def leg_number(request_id: str) -> int:
    """The number of the leg that a request id is of."""
    _, mark, number = request_id.partition(LEG_MARK)
    return int(number) if mark and number.isascii() and number.isdigit() else 1
