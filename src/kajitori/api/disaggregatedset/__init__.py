"""The API group disaggregatedset.x-k8s.io: sets of roles that serve together, and what scales one of them."""
