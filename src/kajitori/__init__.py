"""Kajitori: an AI platform on any Kubernetes, and a Kubernetes on a laptop."""

__version__ = "0.1.0"
