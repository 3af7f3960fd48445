"""The only room that talks to an API server: authentication, list, watch, apply, patch, leases, errors."""
