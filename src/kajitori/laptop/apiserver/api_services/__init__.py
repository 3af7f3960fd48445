"""APIs that other servers serve: APIService objects, requests passed on to them, and our own `metrics.k8s.io`."""
