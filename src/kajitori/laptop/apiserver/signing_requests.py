"""CertificateSigningRequests: who asks is written down by the server, and what is asked for never changes.

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests"; NodeRestriction admission.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from kajitori.laptop.apiserver import status
from kajitori.laptop.apiserver.node_rights import node_of
from kajitori.laptop.apiserver.pki import MASTERS_GROUP
from kajitori.laptop.apiserver.rbac import Attributes

if TYPE_CHECKING:
    from kajitori.laptop.apiserver.auth import User
    from kajitori.laptop.apiserver.kinds.kind import Kind
    from kajitori.laptop.apiserver.state import ServerState

SIGNING_REQUESTS = "certificatesigningrequests.certificates.k8s.io"
_NODE_SIGNERS = ("kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving")
_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
_SET_BY_SERVER = ("username", "uid", "groups", "extra")


def admit_request(user: User, kind: Kind, new: dict[str, Any], old: dict[str, Any] | None) -> None:
    """Fill in who asks, or keep what was asked. Raises StatusError 422 and 403."""
    if old is not None:
        new["spec"] = old["spec"]
        return
    info = user.info()
    kept = {key: value for key, value in new["spec"].items() if key not in _SET_BY_SERVER}
    new["spec"] = kept | {key: info[key] for key in _SET_BY_SERVER if key in info}
    new["status"] = {}
    name = new["metadata"].get("name", "")
    request = _read(kind, name, str(kept.get("request", "")))
    signer = kept.get("signerName")
    subject = request.subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if signer == _CLIENT_SIGNER and MASTERS_GROUP in groups:
        raise status.forbidden(
            kind.resource, name, f"use of {_CLIENT_SIGNER} signer with {MASTERS_GROUP} group is not allowed"
        )
    if node_of(user) and signer in _NODE_SIGNERS and names != [user.name]:
        raise status.forbidden(
            kind.resource, name, f"can only create a node CSR with CN={user.name}, got {names}"
        )


def check_signer(
    state: ServerState, user: User, kind: Kind, new: dict[str, Any], old: dict[str, Any], subresource: str
) -> None:
    """Approving and signing ask for a right to the signer, or to all signers of its domain. Raises StatusError 403."""
    field, verb = {"approval": ("conditions", "approve"), "status": ("certificate", "sign")}[subresource]
    before, after = ((obj.get("status") or {}).get(field) for obj in (old, new))
    if before == after:
        return
    signer = str(old["spec"].get("signerName", ""))
    for name in (signer, f"{signer.partition('/')[0]}/*"):
        if state.authorizer.allows(user, Attributes(verb, kind.resource.group, "signers", "", name)):
            return
    text = f"user not permitted to {verb} requests with signerName {json.dumps(signer)}"
    raise status.forbidden(kind.resource, new["metadata"].get("name", ""), text)


def _read(kind: Kind, name: str, text: str) -> x509.CertificateSigningRequest:
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error) as error:
        problem = status.invalid_value("spec.request", text, f"unable to parse csr: {error}")
        raise status.invalid(kind.resource.kind, kind.resource.group, name, [problem]) from None
    if not request.is_signature_valid:
        problem = status.invalid_value("spec.request", text, "the signature of the request is not its key's")
        raise status.invalid(kind.resource.kind, kind.resource.group, name, [problem])
    return request
