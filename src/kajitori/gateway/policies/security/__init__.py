"""SecurityPolicies: who may use a route, by filters of Envoy that stand in every listener and by one script."""
