"""Limits and budgets: what may pass, what it is charged, and where the counts are kept."""
