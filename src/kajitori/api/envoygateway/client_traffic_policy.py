"""ClientTrafficPolicy v1alpha1: how connections and requests of clients are taken.

The struct has what is honoured. Objects may have more (their schema keeps unknown fields); what that is stands in
their status. Fields, defaults and rules follow envoyproxy/gateway.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from kajitori.api.crd import Int64, rule
from kajitori.api.envoygateway.cluster_settings import Count, HTTP2Settings, Size
from kajitori.api.envoygateway.policy import PolicyStatus, PolicyTargets, policy_definition, target_rules
from kajitori.api.envoygateway.response_override import AnswerHeader, StringMatch
from kajitori.api.gateway.shared import Duration, SecretObjectReference
from kajitori.api.kubernetes.meta_v1 import ObjectMeta

_TLS_VERSIONS = Literal["Auto", "1.0", "1.1", "1.2", "1.3"]


class ProxyProtocolSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Connections begin with the client's address; optional: they may."""

    optional: bool = False


class XForwardedFor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whom to believe in the header x-forwarded-for."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("has(self.numTrustedHops) != has(self.trustedCIDRs)", "give numTrustedHops or trustedCIDRs")
        ]
    }
    num_trusted_hops: Count | None = None
    trusted_cidrs: list[str] = field(default_factory=list, name="trustedCIDRs")
    disable_x_forwarded_for_append: bool = False


class CustomHeader(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A header with the client's address. failClosed: without it a request is answered with 403."""

    name: Annotated[str, Meta(min_length=1, max_length=255, pattern="^[A-Za-z0-9-]+$")]
    fail_closed: bool = False


class ClientIPDetection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the client's address is found."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "[has(self.xForwardedFor), has(self.customHeader), has(self.directSourceIP)]"
                ".filter(x, x).size() == 1",
                "give exactly one of xForwardedFor, customHeader and directSourceIP",
            )
        ]
    }
    x_forwarded_for: XForwardedFor | None = None
    custom_header: CustomHeader | None = None
    direct_source_ip: dict[str, Any] | None = field(default=None, name="directSourceIP")


class OtherName(StringMatch, frozen=True, kw_only=True, rename="camel"):
    """A name of another type, which its object identifier says, such as 1.3.6.1.4.1.311.20.2.3."""

    oid: str


class RevocationLists(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Certificates that were revoked: `ca.crl` in ConfigMaps or Secrets, a list for each authority.

    onlyVerifyLeafCertificate: authorities need no list.
    """

    refs: Annotated[list[SecretObjectReference], Meta(min_length=1, max_length=8)]
    only_verify_leaf_certificate: bool = False


class SubjectAltNames(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Names of which a client's certificate has one."""

    dns_names: list[StringMatch] = field(default_factory=list)
    email_addresses: list[StringMatch] = field(default_factory=list)
    ip_addresses: list[StringMatch] = field(default_factory=list)
    uris: list[StringMatch] = field(default_factory=list)
    other_names: list[OtherName] = field(default_factory=list)


class ClientValidation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which certificates of clients are taken."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "!has(self.allowExpiredCertificate) || !self.allowExpiredCertificate || !has(self.mode)"
                " || self.mode in ['VerifyIfGiven', 'RequireAndVerify']",
                "allowExpiredCertificate goes with the modes that verify only",
            )
        ]
    }
    optional: bool = False
    mode: Literal["Request", "RequireAny", "VerifyIfGiven", "RequireAndVerify"] | None = None
    ca_certificate_refs: Annotated[list[SecretObjectReference], Meta(max_length=8)] = field(
        default_factory=list, name="caCertificateRefs"
    )
    spki_hashes: list[str] = field(default_factory=list)
    certificate_hashes: list[str] = field(default_factory=list)
    subject_alt_names: SubjectAltNames | None = None
    crl: RevocationLists | None = None
    allow_expired_certificate: bool = False


class SessionResumption(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Ways in which a session is taken up again."""

    stateless: dict[str, Any] | None = None
    stateful: dict[str, Any] | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of TLS."""

    resumption: SessionResumption | None = None


class ClientTLS(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """TLS towards clients."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "has(self.minVersion) && self.minVersion == '1.3' ? !has(self.ciphers) : true",
                "ciphers have no effect from TLS 1.3 on",
            ),
            rule(
                'has(self.minVersion) && has(self.maxVersion) ? {"Auto":0,"1.0":1,"1.1":2,"1.2":3,"1.3":4}'
                '[self.minVersion] <= {"1.0":1,"1.1":2,"1.2":3,"1.3":4,"Auto":5}[self.maxVersion]'
                " : !has(self.minVersion) && has(self.maxVersion)"
                ' ? 3 <= {"1.0":1,"1.1":2,"1.2":3,"1.3":4,"Auto":5}[self.maxVersion] : true',
                "minVersion is not above maxVersion",
            ),
        ]
    }
    min_version: _TLS_VERSIONS | None = None
    max_version: _TLS_VERSIONS | None = None
    ciphers: list[str] = field(default_factory=list)
    ecdh_curves: list[str] = field(default_factory=list)
    signature_algorithms: list[str] = field(default_factory=list)
    alpn_protocols: list[str] = field(default_factory=list)
    client_validation: ClientValidation | None = None
    session: Session | None = None


class PathSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How paths are put in order."""

    escaped_slashes_action: (
        Literal["KeepUnchanged", "RejectRequest", "UnescapeAndForward", "UnescapeAndRedirect"] | None
    ) = None
    disable_merge_slashes: bool = False


class XForwardedClientCert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What backends are told of a client's certificate."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule(
                "(has(self.certDetailsToAdd) && self.certDetailsToAdd.size() > 0)"
                " ? (self.mode == 'AppendForward' || self.mode == 'SanitizeSet') : true",
                "certDetailsToAdd goes with AppendForward and SanitizeSet only",
            )
        ]
    }
    mode: Literal["Sanitize", "ForwardOnly", "AppendForward", "SanitizeSet", "AlwaysForwardOnly"] | None = (
        None
    )
    cert_details_to_add: Annotated[
        list[Literal["Subject", "Cert", "Chain", "DNS", "URI"]], Meta(max_length=5)
    ] = field(default_factory=list)


class HeaderChanges(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Headers to set, to add and to remove."""

    set: Annotated[list[AnswerHeader], Meta(max_length=64)] = field(default_factory=list)
    add: Annotated[list[AnswerHeader], Meta(max_length=64)] = field(default_factory=list)
    add_if_absent: Annotated[list[AnswerHeader], Meta(max_length=64)] = field(default_factory=list)
    remove: Annotated[list[str], Meta(max_length=64)] = field(default_factory=list)
    remove_on_match: Annotated[list[StringMatch], Meta(max_length=64)] = field(default_factory=list)


class ResponseHeaderChanges(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The same for answers, where headers are removed by name only."""

    set: Annotated[list[AnswerHeader], Meta(max_length=64)] = field(default_factory=list)
    add: Annotated[list[AnswerHeader], Meta(max_length=64)] = field(default_factory=list)
    add_if_absent: Annotated[list[AnswerHeader], Meta(max_length=64)] = field(default_factory=list)
    remove: Annotated[list[str], Meta(max_length=64)] = field(default_factory=list)


class HostSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How the host that a client asks for is read."""

    strip_trailing_host_dot: bool = False


class HeaderSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """requestID: Generate is what happens anyway; the others let clients choose, and are told as not honoured."""

    enable_envoy_headers: bool | None = None
    x_forwarded_client_cert: XForwardedClientCert | None = None
    with_underscores_action: Literal["Allow", "RejectRequest", "DropHeader"] | None = None
    request_id: Literal["PreserveOrGenerate", "Preserve", "Generate", "Disable"] | None = field(
        default=None, name="requestID"
    )
    early_request_headers: HeaderChanges | None = None
    late_response_headers: ResponseHeaderChanges | None = None
    host: HostSettings | None = None


class TCPClientTimeout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Until a connection is ready for requests."""

    tls_handshake_timeout: Duration | None = None
    connection_inspection_timeout: Duration | None = None


class HTTPClientTimeout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of requests, and of connections without any."""

    request_received_timeout: Duration | None = None
    request_headers_received_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    stream_idle_timeout: Duration | None = None


class ClientTimeout(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """By layer."""

    tcp: TCPClientTimeout | None = None
    http: HTTPClientTimeout | None = None


class ConnectionLimit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many connections there may be, and how long each may last."""

    __crd__: ClassVar[dict[str, Any]] = {
        "x-kubernetes-validations": [
            rule("!has(self.closeDelay) || has(self.value)", "closeDelay needs a value")
        ]
    }
    value: Annotated[Int64, Meta(ge=1)] | None = None
    close_delay: Duration | None = None
    max_connection_duration: Duration | None = None
    max_requests_per_connection: Count | None = None
    max_stream_duration: Duration | None = None


class ClientConnection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of connections of clients."""

    connection_limit: ConnectionLimit | None = None
    buffer_limit: Size | None = None
    max_accept_per_socket_event: Count = 1


class HTTP10Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """HTTP/1.0 is served. useDefaultHost: requests without a host are for that of the listener."""

    use_default_host: bool = False


class HTTP1Settings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of HTTP/1."""

    enable_trailers: bool = False
    preserve_header_case: bool = False
    http10: HTTP10Settings | None = None
    disable_safe_max_connection_duration: bool = False
    ignored_upgrade_types: list[StringMatch] = field(default_factory=list)


class HealthCheckSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A path that the gateway answers with 200 itself, while it takes requests."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]


class ClientTrafficPolicySpec(PolicyTargets, frozen=True, kw_only=True, rename="camel"):
    """Whom it is for, and what holds for their clients."""

    __crd__: ClassVar[dict[str, Any]] = {"x-kubernetes-validations": target_rules("Gateway", "ListenerSet")}
    enable_proxy_protocol: bool | None = None
    proxy_protocol: ProxyProtocolSettings | None = None
    client_ip_detection: ClientIPDetection | None = field(default=None, name="clientIPDetection")
    tls: ClientTLS | None = None
    path: PathSettings | None = None
    headers: HeaderSettings | None = None
    timeout: ClientTimeout | None = None
    connection: ClientConnection | None = None
    http1: HTTP1Settings | None = None
    http2: HTTP2Settings | None = None
    health_check: HealthCheckSettings | None = None
    scheme: Literal["Preserve", "MatchBackend"] | None = None


class ClientTrafficPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How traffic of clients is taken."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: ClientTrafficPolicySpec
    status: PolicyStatus | None = None


DEFINITIONS = (policy_definition(ClientTrafficPolicy, "clienttrafficpolicies", "ctp"),)
