"""Objects as tables, the way `kubectl get` shows them."""

from kajitori.laptop.apiserver.tables.rendering import partial_metadata, table

__all__ = ["partial_metadata", "table"]
