"""Envoy itself: the schema of its messages, its bootstrap, and the gRPC server that it talks to."""
