"""EndpointSlices and Endpoints of Services with selectors."""

from __future__ import annotations

from kajitori.laptop.controllers.endpoint_slices.controller import register

__all__ = ["register"]
