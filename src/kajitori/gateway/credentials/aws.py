"""AWS: keys from a credentials file, the credentials of a role for a token of another issuer, and the region to sign for.

What is signed with travels as one text: access key, secret key and perhaps a session token, with blanks between.
"""

from __future__ import annotations

import configparser
import re
from typing import Any
from xml.etree import ElementTree

import msgspec

from kajitori.gateway.credentials.exchange import (
    Answer,
    Concealed,
    ExchangeFailed,
    Request,
    Steps,
    Surroundings,
    Token,
    moment,
    refused,
)
from kajitori.gateway.credentials.oidc import OIDCLogin

# Names that Bedrock answers under: plain, FIPS, dual stack, and of an endpoint inside somebody's network.
_BEDROCK_HOST = re.compile(
    r"(?:.*\.)?bedrock(?:-runtime|-agent|-agent-runtime|-mantle)?(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-\d+)"
    r"\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws|api\.amazonwebservices\.com\.cn)"
)
_KEY_CHARACTERS = re.compile(r"[\x21-\x7e]+")
_UNSERVED_KEYS = ("role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file")
_LONGEST_SESSION_NAME = 64


class AWSRoleExchange(msgspec.Struct, frozen=True, kw_only=True):
    """A role that trusts an OpenID provider."""

    region: str
    role_arn: str
    session_name: str
    login: OIDCLogin

    @property
    def identity(self) -> tuple[str, ...]:
        return ("AWS", self.region, self.role_arn, *self.login.identity)

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.login.client_secret.text,)

    def steps(self, surroundings: Surroundings, now: float) -> Steps:
        """Raises ExchangeFailed."""
        token = yield from self.login.steps()
        request = role_request(surroundings, self.region, self.role_arn, self.session_name, token)
        answer = yield request
        return role_credentials(request, answer)


def signing_region(host: str, configured: str) -> str:
    """The region that a real Bedrock host names, else the policy's."""
    found = _BEDROCK_HOST.fullmatch(host.lower().rstrip("."))
    return found.group(1) if found else configured


def session_name(policy: str) -> str:
    """How a role's session is called, in characters that STS takes."""
    return re.sub(r"[^\w+=,.@-]", "-", f"ai-gateway-{policy}")[:_LONGEST_SESSION_NAME]


def signing_text(access_key: str, secret_key: str, session_token: str = "") -> str:
    """Raises ValueError where a part has blanks or odd characters; the message names the part, not its value."""
    parts = {"access key": access_key, "secret key": secret_key, "session token": session_token}
    for name, value in parts.items():
        if value and not _KEY_CHARACTERS.fullmatch(value):
            raise ValueError(f"the {name} has blanks or odd characters")
    if not access_key or not secret_key:
        raise ValueError("there is no access key, or no secret key")
    return " ".join(value for value in parts.values() if value)


def read_credentials_file(text: str, profile: str) -> str:
    """The signing text of a profile. Raises ValueError, with a message that tells no value."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        raise ValueError(
            "that is no credentials file: sections in brackets, then lines of name = value"
        ) from None
    section = next((name for name in (profile, f"profile {profile}") if parser.has_section(name)), None)
    if section is None:
        known = ", ".join(sorted(name.removeprefix("profile ") for name in parser.sections())) or "none"
        raise ValueError(f"there is no profile {profile!r}; there are: {known[:200]}")
    values = dict(parser.items(section))
    if "aws_access_key_id" not in values:
        other = [name for name in _UNSERVED_KEYS if name in values]
        found = f"; {other[0]} is not honoured" if other else ""
        raise ValueError(f"profile {profile!r} has no aws_access_key_id{found}")
    try:
        return signing_text(
            values["aws_access_key_id"],
            values.get("aws_secret_access_key", ""),
            values.get("aws_session_token", ""),
        )
    except ValueError as error:
        raise ValueError(f"profile {profile!r}: {error}") from None


def role_request(surroundings: Surroundings, region: str, role_arn: str, session: str, token: str) -> Request:
    """AssumeRoleWithWebIdentity of STS; it is not signed, the token proves who asks."""
    suffix = ".amazonaws.com.cn" if region.startswith("cn-") else ".amazonaws.com"
    url = surroundings.variable("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL") or f"https://sts.{region}{suffix}"
    return Request(
        endpoint=f"STS of AWS ({region})",
        url=url.rstrip("/") + "/",
        form={
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": role_arn,
            "RoleSessionName": session,
            "WebIdentityToken": token,
        },
    )


def role_credentials(request: Request, answer: Answer) -> Token:
    """What STS gave. Raises ExchangeFailed."""
    if answer.status != 200 or b"<!" in answer.body:
        raise refused(request, answer, "credentials")
    try:
        root = ElementTree.fromstring(answer.body)
    except ElementTree.ParseError:
        raise refused(request, answer, "credentials") from None
    found = {item.tag.rpartition("}")[2]: (item.text or "").strip() for item in root.iter()}
    return temporary(
        request, found.get("AccessKeyId"), found.get("SecretAccessKey"), found.get("SessionToken"),
        found.get("Expiration"),
    )  # fmt: skip


def temporary(request: Request, access: Any, secret: Any, session: Any, expiration: Any) -> Token:
    """Temporary credentials as an endpoint gave them, of whatever types. Raises ExchangeFailed."""
    access, secret, session, expiration = (
        part if isinstance(part, str) else "" for part in (access, secret, session, expiration)
    )
    try:
        text = signing_text(access, secret, session)
    except ValueError as error:
        raise ExchangeFailed(f"{request.endpoint} gave credentials that are of no use: {error}") from None
    return Token(Concealed(text), moment(expiration))
