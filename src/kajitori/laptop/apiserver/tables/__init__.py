"""Objects as the rows that `kubectl get` shows: columns and cells, a module for each family of kinds."""
