"""The kind APIService, as a definition: it is stored and served like any other.

Source: the API reference, apiregistration.k8s.io/v1.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

RESOURCE = "apiservices.apiregistration.k8s.io"
_TEXT: Object = {"type": "string"}
_NUMBER: Object = {"type": "integer", "format": "int32"}
_PRIORITY: Object = {**_NUMBER, "minimum": 1, "maximum": 20000}

_SPEC: Object = {
    "type": "object",
    "required": ["groupPriorityMinimum", "versionPriority"],
    "properties": {
        "group": _TEXT,
        "version": _TEXT,
        "groupPriorityMinimum": _PRIORITY,
        "versionPriority": {**_NUMBER, "minimum": 1, "maximum": 1000},
        "insecureSkipTLSVerify": {"type": "boolean"},
        "caBundle": {"type": "string", "format": "byte"},
        "service": {
            "type": "object",
            "properties": {"name": _TEXT, "namespace": _TEXT, "port": {**_NUMBER, "default": 443}},
        },
    },
    "x-kubernetes-validations": [
        {
            "rule": "!(has(self.insecureSkipTLSVerify) && self.insecureSkipTLSVerify && has(self.caBundle))",
            "message": "may not be true if caBundle is present",
            "fieldPath": ".insecureSkipTLSVerify",
        }
    ],
}
_CONDITION: Object = {
    "type": "object",
    "required": ["type", "status"],
    "properties": {
        **dict.fromkeys(("type", "status", "reason", "message"), _TEXT),
        "lastTransitionTime": {"type": "string", "format": "date-time"},
    },
}
_SCHEMA: Object = {
    "type": "object",
    "properties": {
        "spec": _SPEC,
        "status": {
            "type": "object",
            "properties": {
                "conditions": {
                    "type": "array",
                    "items": _CONDITION,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["type"],
                }
            },
        },
    },
}
_NAMES: Object = {
    "plural": "apiservices",
    "singular": "apiservice",
    "kind": "APIService",
    "listKind": "APIServiceList",
    "categories": ["api-extensions"],
}
_AVAILABLE = '.status.conditions[?(@.type=="Available")].status'

DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": RESOURCE},
    "spec": {
        "group": "apiregistration.k8s.io",
        "scope": "Cluster",
        "names": _NAMES,
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": _SCHEMA},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Service", "type": "string", "jsonPath": ".spec.service.name"},
                    {"name": "Available", "type": "string", "jsonPath": _AVAILABLE},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
            }
        ],
    },
    "status": {"acceptedNames": _NAMES, "storedVersions": ["v1"], "conditions": []},
}
