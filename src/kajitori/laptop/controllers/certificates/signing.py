"""Approves what may be approved without a person, signs what is approved, removes what is settled.

A request for a node's client certificate is approved if its author has the right to ask for that, as on any
cluster. A serving certificate is approved too, which other clusters leave to a person, if a node asks for no more
than the addresses in its own status.
"""

from __future__ import annotations

import base64
import datetime
import time
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kajitori.api.resource import NODES
from kajitori.base.clock import parse_rfc3339, rfc3339
from kajitori.base.errors import NotFound
from kajitori.control.controller import After, Done, Key, Result
from kajitori.kube.client import Client
from kajitori.laptop.controllers.certificates import plan
from kajitori.laptop.controllers.certificates.controller import SIGNING_REQUESTS

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class Signing:
    """Settles one request at a time. folder: of the authority's certificate and key."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder

    async def reconcile(self, key: Key) -> Result:
        try:
            obj: dict[str, Any] = await self._client.get(SIGNING_REQUESTS, key.name)
        except NotFound:
            return Done()
        status: dict[str, Any] = obj.get("status") or {}
        types = [each["type"] for each in status.get("conditions") or ()]
        created = parse_rfc3339(obj["metadata"]["creationTimestamp"])
        left = created + plan.kept_seconds(types) - time.time()
        if left <= 0:
            await self._client.delete(SIGNING_REQUESTS, key.name)
            return Done()
        await self._step(obj, status, types)
        return After(left)

    async def _step(self, obj: dict[str, Any], status: dict[str, Any], types: list[str]) -> None:
        """The one thing that is to be done now, if any: what it writes brings the request back here."""
        if obj["spec"].get("signerName") not in plan.SIGNERS or status.get("certificate"):
            return
        if "Denied" in types or "Failed" in types:
            return
        asked = plan.read_request(obj)
        if "Approved" not in types:
            if message := await self._approval(asked, obj["spec"]):
                await self._add_condition(obj, "Approved", "AutoApproved", message, "approval")
            return
        if refusal := plan.refusal(asked):
            await self._add_condition(obj, "Failed", "SignerValidationFailure", refusal, "status")
            return
        now = datetime.datetime.now(datetime.UTC)
        certificate = plan.sign(asked, obj["spec"].get("expirationSeconds"), *self._authority(), now)
        signed = {**status, "certificate": base64.b64encode(certificate).decode()}
        await self._client.update(SIGNING_REQUESTS, {**obj, "status": signed}, subresource="status")

    def _authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = serialization.load_pem_private_key((self._folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate((self._folder / "ca.crt").read_bytes()), key

    async def _approval(self, asked: plan.Asked, spec: dict[str, Any]) -> str:
        """Why the request is approved; empty if it is not."""
        if right := plan.right_to_be_approved(asked):
            if await self._may_create(spec, right):
                return f"Auto approving kubelet client certificate after SubjectAccessReview ({right})."
            return ""
        if asked.signer != plan.NODE_SERVING:
            return ""
        try:
            node: dict[str, Any] = await self._client.get(
                NODES, asked.common_name.removeprefix(plan.NODE_PREFIX)
            )
        except NotFound:
            return ""
        addresses = {each["address"] for each in (node.get("status") or {}).get("addresses") or ()}
        if plan.serves_only_itself(asked, addresses):
            return "The node asks for no more than the addresses of its status."
        return ""

    async def _may_create(self, spec: dict[str, Any], right: str) -> bool:
        who = {key: spec[key] for key in ("uid", "groups", "extra") if key in spec}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                **who,
                "user": spec.get("username", ""),
                "resourceAttributes": {
                    "group": SIGNING_REQUESTS.group,
                    "resource": SIGNING_REQUESTS.plural,
                    "subresource": right,
                    "verb": "create",
                },
            },
        }
        answer = msgspec.json.decode(await self._client.request("POST", _REVIEWS, body=review))
        return bool((answer.get("status") or {}).get("allowed"))

    async def _add_condition(
        self, obj: dict[str, Any], kind: str, reason: str, message: str, subresource: str
    ) -> None:
        now = rfc3339(time.time())
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastUpdateTime": now,
            "lastTransitionTime": now,
        }
        status: dict[str, Any] = obj.get("status") or {}
        changed = {**status, "conditions": [*(status.get("conditions") or ()), condition]}
        await self._client.update(SIGNING_REQUESTS, {**obj, "status": changed}, subresource=subresource)
