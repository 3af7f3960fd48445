"""Wire types of Envoy AI Gateway (aigateway.envoyproxy.io)."""
