"""Wire types of Envoy Gateway (gateway.envoyproxy.io), as far as AI manifests use them."""
