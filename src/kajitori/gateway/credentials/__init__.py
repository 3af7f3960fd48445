"""Credentials for backends: from policies and Secrets to what Envoy injects."""
