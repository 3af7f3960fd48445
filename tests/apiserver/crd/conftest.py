"""The running server and its bare client, as the core's tests have them."""

from tests.apiserver.core.conftest import api, cluster

__all__ = ["api", "cluster"]
