"""Backends: where they are on the network, and how an attempt is prepared for each."""
