"""Policies of Envoy Gateway: to what they attach, which one holds where, and what they change."""
