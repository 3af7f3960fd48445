"""Fields of kinds that are about the cluster, of each of which a rule of its own is enough; see `single_fields`."""

from __future__ import annotations

import re
from typing import Any

from kajitori.laptop.apiserver.status import FieldError, invalid_value, required, too_long
from kajitori.laptop.apiserver.validation.metadata import IMMUTABLE
from kajitori.laptop.apiserver.validation.names import dns_label, dns_subdomain, label_key
from kajitori.laptop.apiserver.validation.placement import node_selector_term_errors, toleration_errors
from kajitori.laptop.apiserver.validation.single_fields import Rule, Rules, form, needed, one_of

Object = dict[str, Any]

_SIGNER = re.compile(r"[a-z0-9][-a-z0-9.]*\.[-a-z0-9.]+/.+")
_USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
_LIMITED = ("Container", "PersistentVolumeClaim", "Pod")
_CONTROLLER_BYTES = 250


def _controller(value: str, path: str) -> list[FieldError]:
    domain, slash, rest = value.partition("/")
    errors = [too_long(path, _CONTROLLER_BYTES)] if len(value) > _CONTROLLER_BYTES else []
    if not slash or not rest or dns_subdomain(domain):
        errors.append(invalid_value(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")'))
    return errors


def _limited(value: str, path: str) -> list[FieldError]:
    errors = [invalid_value(path, value, message) for message in label_key(value)]
    if not errors and "/" not in value and value not in _LIMITED:
        errors.append(invalid_value(path, value, "must be a standard limit type or fully qualified"))
    return errors


def _signer(value: str, path: str) -> list[FieldError]:
    text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
    return [] if _SIGNER.fullmatch(value) else [invalid_value(path, value, text)]


def _required_terms(value: Object, path: str) -> list[FieldError]:
    terms: list[Object] = value.get("nodeSelectorTerms") or []
    here = f"{path}.nodeSelectorTerms"
    if not terms:
        return [required(here, "must have at least one node selector term")]
    return [
        e for index, term in enumerate(terms) for e in node_selector_term_errors(term, f"{here}[{index}]")
    ]


_RULES = {
    "io.k8s.api.networking.v1.IngressClass": Rules(
        {
            "spec.controller": needed(Rule(_controller)),
            "spec.parameters.kind": needed(),
            "spec.parameters.name": needed(),
            "spec.parameters.apiGroup": form(dns_subdomain),
        }
    ),
    "io.k8s.api.node.v1.RuntimeClass": Rules(
        {"handler": form(dns_label), "scheduling.tolerations": Rule(toleration_errors)}
    ),
    "io.k8s.api.certificates.v1.CertificateSigningRequest": Rules(
        {
            "spec.signerName": needed(Rule(_signer)),
            "spec.usages": needed(),
            "spec.usages[]": one_of(*_USAGES),
        }
    ),
    "io.k8s.api.core.v1.LimitRange": Rules(
        {"spec.limits[].type": Rule(_limited, lambda path: _limited("", path))}
    ),
    "io.k8s.api.core.v1.PersistentVolume": Rules(
        {
            "spec.nodeAffinity.required": needed(
                Rule(_required_terms), "must specify required node constraints"
            ),
            "spec.csi.driver": needed(),
            "spec.csi.volumeHandle": needed(),
            "spec.hostPath.path": needed(),
        }
    ),
    "io.k8s.api.storage.v1.StorageClass": Rules({"provisioner": form(lambda name: label_key(name.lower()))}),
    "io.k8s.api.storage.v1.CSIStorageCapacity": Rules({"storageClassName": form(dns_subdomain)}),
    "io.k8s.api.storage.v1.VolumeAttributesClass": Rules(
        {"driverName": needed(), "parameters": needed(text="must contain at least one key/value pair")}
    ),
    "io.k8s.api.storage.v1.VolumeAttachment": Rules({"spec.attacher": needed()}),
    "io.k8s.api.storage.v1.CSINode": Rules(
        {"spec.drivers[].name": needed(), "spec.drivers[].nodeID": needed()}
    ),
}


# Fields of specs that stay, each with the name by which it is told.
_STAYS = {
    "io.k8s.api.networking.v1.IngressClass": (("controller", "controller"),),
    "io.k8s.api.storage.v1.CSIDriver": (
        ("attachRequired", "attachedRequired"),
        ("volumeLifecycleModes", "volumeLifecycleModes"),
    ),
}


def has_cluster_fields(definition: str) -> bool:
    return definition in _RULES or definition in _STAYS


def cluster_field_errors(
    definition: str, new: Object, old: Object | None, subresource: str
) -> list[FieldError]:
    """What single fields of an object of this definition break, or a change of them."""
    if subresource:
        return []
    rules = _RULES.get(definition)
    errors = rules.errors(new) if rules is not None else []
    if old is not None:
        after, before = new.get("spec") or {}, old.get("spec") or {}
        errors += [
            invalid_value(f"spec.{told}", after.get(field), IMMUTABLE)
            for field, told in _STAYS.get(definition, ())
            if after.get(field) != before.get(field)
        ]
    return errors
