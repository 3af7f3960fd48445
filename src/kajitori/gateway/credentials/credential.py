"""What proves to a backend who asks: values that the plan passes from policies to clusters.

No secret is in them. A configured one travels as an SDS secret of this name; one that the client brings stays with
the request.
"""

from __future__ import annotations

import msgspec

AUTHORIZATION = "authorization"
# Where Envoy puts what requests are signed with, for the script that signs. It never leaves the gateway.
SIGNING_HEADER = "x-kajitori-aws-credentials"
SIGNATURE_HEADERS = (AUTHORIZATION, "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")


class Override(msgspec.Struct, frozen=True):
    """A credential that comes with the request.

    keys: the headers, or the member of the metadata, that carry it. namespace: of the metadata; empty: headers.
    fallback: the configured credential serves where none comes; else such a request is refused.
    """

    keys: tuple[str, ...]
    namespace: str = ""
    fallback: bool = True

    @property
    def headers(self) -> tuple[str, ...]:
        return () if self.namespace else self.keys


class Signing(msgspec.Struct, frozen=True):
    """A signature of AWS, version 4. host: which name is signed; empty: that of the request."""

    region: str
    host: str = ""
    service: str = "bedrock"


class Credential(msgspec.Struct, frozen=True):
    """What goes with each attempt at a backend.

    header, prefix: where the secret goes, and what before it. sds_name: under which Envoy gets the configured
    secret; empty: there is none. signing: the secret signs, and does not go out.
    """

    header: str
    prefix: str = ""
    sds_name: str = ""
    override: Override | None = None
    signing: Signing | None = None

    @property
    def written_headers(self) -> set[str]:
        """What an attempt may leave for the next one."""
        return set(SIGNATURE_HEADERS) if self.signing else {self.header}
