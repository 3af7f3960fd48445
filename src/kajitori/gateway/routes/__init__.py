"""Routes and listeners: who attaches where, and what Envoy's tables look like."""
