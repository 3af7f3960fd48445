"""Where an Envoy and its accountant meet: files and sockets."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Places(msgspec.Struct, frozen=True):
    """folder: of records and the last policy. access_log: what Envoy writes.

    admission: the socket where the accountant is asked. envoy_admin: where Envoy is. rescue: where streams are relayed;
    inner: where Envoy takes them back (see `kajitori.gateway.rescue`).
    """

    folder: Path
    access_log: Path
    admission: Path
    envoy_admin: Path
    rescue: Path
    inner: Path

    @property
    def used_up(self) -> Path:
        """See `used_up_beside`."""
        return used_up_beside(self.access_log)


def used_up_beside(access_log: Path) -> Path:
    """The file in which the accountant tells Envoy which limits are used up."""
    return access_log.with_name("used-up")
