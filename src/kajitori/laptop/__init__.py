"""The embedded cluster: API server, controllers, nodes that run pods as processes, services through Envoy."""
