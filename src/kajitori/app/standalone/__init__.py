"""A gateway without a cluster: objects from a file or from environment variables, served by the same processes."""
