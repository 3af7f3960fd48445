"""What an OpenID provider says of itself."""

from __future__ import annotations

import msgspec


class Issuer(msgspec.Struct, frozen=True):
    """The endpoints of a provider. problem: why they cannot be had, if so."""

    authorization_endpoint: str = ""
    token_endpoint: str = ""
    end_session_endpoint: str = ""
    problem: str = ""
