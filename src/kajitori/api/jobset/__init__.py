"""The jobset.x-k8s.io API group: Jobs that belong together."""
