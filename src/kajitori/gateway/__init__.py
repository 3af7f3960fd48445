"""The AI gateway: Gateway API and Envoy AI Gateway objects to Envoy configuration, and the ledger."""
