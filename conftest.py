"""Fixtures that tests of several folders share: both API servers, one of each a session."""

pytest_plugins = ["tests.servers"]
