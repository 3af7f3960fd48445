"""Wire types of the Gateway API (gateway.networking.k8s.io)."""
