"""What an SDK of AWS would find in the gateway's place: keys of the environment, a shared credentials file, the role
of a Kubernetes service account (IRSA), the agent of EKS or ECS, the role of the machine. The first that is there counts.
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from kajitori.gateway.credentials.aws import (
    read_credentials_file,
    role_credentials,
    role_request,
    session_name,
    signing_text,
    temporary,
)
from kajitori.gateway.credentials.exchange import (
    Answer,
    Concealed,
    ExchangeFailed,
    ReadFile,
    Request,
    Step,
    Steps,
    Surroundings,
    Token,
    refused,
)

_METADATA = "http://169.254.169.254"
_CONTAINER = "http://169.254.170.2"
_ROLE_PATH = "/latest/meta-data/iam/security-credentials/"


class AWSDefaultChain(msgspec.Struct, frozen=True):
    """The gateway's own identity at AWS."""

    region: str

    @property
    def identity(self) -> tuple[str, ...]:
        return ("AWS", "default", self.region)

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()

    def steps(self, surroundings: Surroundings, now: float) -> Steps:
        """Raises ExchangeFailed."""
        variable = surroundings.variable
        if variable("AWS_ACCESS_KEY_ID") and variable("AWS_SECRET_ACCESS_KEY"):
            return _of_environment(surroundings)
        shared = yield from _of_shared_file(surroundings)
        if shared:
            return shared
        if variable("AWS_WEB_IDENTITY_TOKEN_FILE") and variable("AWS_ROLE_ARN"):
            return (yield from _of_service_account(surroundings, self.region))
        if variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
            return (yield from _of_container(surroundings))
        return (yield from _of_machine(surroundings))


def _of_environment(surroundings: Surroundings) -> Token:
    variable = surroundings.variable
    try:
        text = signing_text(
            variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), variable("AWS_SESSION_TOKEN")
        )
    except ValueError as error:
        raise ExchangeFailed(f"the gateway's environment (AWS_ACCESS_KEY_ID, ...): {error}") from None
    return Token(Concealed(text))


def _of_shared_file(surroundings: Surroundings) -> Generator[Step, Answer, Token | None]:
    given, home = surroundings.variable("AWS_SHARED_CREDENTIALS_FILE"), surroundings.variable("HOME")
    path = given or (f"{home}/.aws/credentials" if home else "")
    if not path:
        return None
    answer = yield ReadFile(path)
    if answer.status != 200:
        return None
    profile = surroundings.variable("AWS_PROFILE")
    try:
        return Token(Concealed(read_credentials_file(answer.text, profile or "default")))
    except ValueError as error:
        # A file that has no default profile is passed by; one that somebody pointed at is meant.
        if given or profile:
            raise ExchangeFailed(f"{path} of the gateway: {error}") from None
        return None


def _of_service_account(surroundings: Surroundings, region: str) -> Steps:
    path = surroundings.variable("AWS_WEB_IDENTITY_TOKEN_FILE")
    answer = yield ReadFile(path)
    if answer.status != 200 or not answer.text:
        raise ExchangeFailed(f"{path}, which AWS_WEB_IDENTITY_TOKEN_FILE names, cannot be read")
    request = role_request(
        surroundings,
        surroundings.variable("AWS_REGION", "AWS_DEFAULT_REGION") or region,
        surroundings.variable("AWS_ROLE_ARN"),
        surroundings.variable("AWS_ROLE_SESSION_NAME") or session_name("default"),
        answer.text,
    )
    answer = yield request
    return role_credentials(request, answer)


def _of_container(surroundings: Surroundings) -> Steps:
    relative = surroundings.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = _CONTAINER + relative if relative else surroundings.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    token = surroundings.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    path = surroundings.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    if path:
        answer = yield ReadFile(path)
        if answer.status != 200:
            raise ExchangeFailed(
                f"{path}, which AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names, cannot be read"
            )
        token = answer.text
    request = Request(
        endpoint="the credentials agent of this container",
        method="GET",
        url=url,
        headers={"authorization": token} if token else {},
    )
    answer = yield request
    return _json_credentials(request, answer)


def _of_machine(surroundings: Surroundings) -> Steps:
    nowhere = ExchangeFailed(
        "the gateway has no AWS credentials of its own: none in its environment, no role of its service account, and "
        "no instance metadata",
        hint="give credentialsFile or oidcExchangeToken in the policy, or give the gateway's service account a role",
    )
    if surroundings.variable("AWS_EC2_METADATA_DISABLED").lower() == "true":
        raise nowhere
    base = (surroundings.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _METADATA).rstrip("/")
    what = "the instance metadata of EC2"
    request = Request(
        endpoint=what,
        method="PUT",
        url=f"{base}/latest/api/token",
        headers={"x-aws-ec2-metadata-token-ttl-seconds": "300"},
        optional=True,
    )
    answer = yield request
    if answer.status == 0:
        raise nowhere
    if answer.status != 200:
        raise refused(request, answer, "a session")
    session = {"x-aws-ec2-metadata-token": answer.text}
    request = Request(endpoint=what, method="GET", url=base + _ROLE_PATH, headers=session)
    answer = yield request
    role = answer.text.split("\n", 1)[0].strip()
    if answer.status != 200 or not role:
        raise refused(request, answer, "a role")
    request = Request(endpoint=what, method="GET", url=base + _ROLE_PATH + role, headers=session)
    answer = yield request
    return _json_credentials(request, answer)


def _json_credentials(request: Request, answer: Answer) -> Token:
    found = answer.json()
    if answer.status != 200 or not found.get("AccessKeyId"):
        raise refused(request, answer, "credentials")
    return temporary(
        request, found.get("AccessKeyId"), found.get("SecretAccessKey"), found.get("Token"), found.get("Expiration")
    )  # fmt: skip
