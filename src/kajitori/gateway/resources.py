"""Resources of Envoy by type and name, in JSON-like form."""

from __future__ import annotations

from typing import Any

import msgspec

# Before the name of a message, in `@type`.
TYPE = "type.googleapis.com/"
CLUSTER = "envoy.config.cluster.v3.Cluster"
ENDPOINTS = "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "envoy.config.listener.v3.Listener"
ROUTES = "envoy.config.route.v3.RouteConfiguration"
# In which route table a request is looked up. See kajitori.gateway.envoy.shards.
SCOPES = "envoy.config.route.v3.ScopedRouteConfiguration"
SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"
# The configuration of a filter that changes though its listener does not.
EXTENSION = "envoy.config.core.v3.TypedExtensionConfig"
# Something is made before what refers to it, and taken away after it.
TYPES = (CLUSTER, ENDPOINTS, SECRET, LISTENER, EXTENSION, ROUTES, SCOPES)


class Resources(msgspec.Struct, frozen=True):
    """by_type: type (one of TYPES) -> name -> resource as protobuf's JSON form has it."""

    by_type: dict[str, dict[str, dict[str, Any]]]
