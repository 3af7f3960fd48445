"""Credentials of backends: exchanges, signatures, what may never be seen."""
