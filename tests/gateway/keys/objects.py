"""APIKeys and Tenants for tests, with the texts that clients send."""

from __future__ import annotations

import hashlib
from typing import Any


def key_text(name: str, secret: str = "") -> str:
    """A key whose id is `name`."""
    return f"kaji_{name}_{(secret or name) * 40}"[:50]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def api_key(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """An APIKey whose id is its name."""
    return {
        "kind": "APIKey",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"id": name, "hashes": [{"sha256": digest(key_text(name))}], **spec},
    }


def tenant(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"kind": "Tenant", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def asking(item: dict[str, Any], value: str = "Required") -> dict[str, Any]:
    """A route or a Gateway that asks for keys."""
    metadata = {**item["metadata"], "annotations": {"gateway.kajitori.dev/api-keys": value}}
    return {**item, "metadata": metadata}
