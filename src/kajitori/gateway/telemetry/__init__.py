"""Spans and metrics of requests for an OpenTelemetry collector, made of the ledger's records."""
