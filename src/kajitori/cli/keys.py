"""Keys of the gateway's clients.

  kaji keys create alice --models 'gpt-*' --expires-in 90d     print a new key, once; only its hash is kept
  kaji keys list
  kaji keys rotate alice --overlap 1h                          a new secret; the old one holds for another hour
  kaji keys revoke alice                                       refuse it from now on (`kaji delete apikey alice` forgets it)

The key is all that goes to the standard output, so `KEY=$(kaji keys create alice)` keeps it off the screen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets
import sys
import time
from typing import Any

from kajitori.api.resource import API_KEYS
from kajitori.base.clock import rfc3339
from kajitori.base.duration import format_age, parse_duration_seconds
from kajitori.base.errors import UsageError
from kajitori.cli.connection import Cluster, cluster_arguments, open_cluster
from kajitori.cli.output import print_rows, warn

FIELD_MANAGER = "kaji-keys"
VERBS = ("create", "list", "rotate", "revoke")
_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH = 8
# As text 40 characters: with the id the whole is 54, which is one block for SHA-256.
_SECRET_BYTES = 30
_MOST_HASHES = 8


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = _verb(verbs, "create", "make a key and print it")
    create.add_argument("name", help="the name of the APIKey")
    create.add_argument("--tenant", help="the Tenant it belongs to: NAME or NAMESPACE/NAME")
    create.add_argument("--models", help="models it may use, such as gpt-4o,claude-* (all)")
    create.add_argument(
        "--routes", help="routes it may use: NAME or NAMESPACE/NAME, with commas between (all)"
    )
    create.add_argument(
        "--budget", action="append", default=[], help="a Budget it is charged to; may be repeated"
    )
    create.add_argument("--expires-in", metavar="TIME", help="such as 12h or 90d (never)")
    listing = _verb(verbs, "list", "the keys of a namespace")
    listing.add_argument("-A", "--all-namespaces", action="store_true")
    revoke = _verb(verbs, "revoke", "refuse keys from now on")
    revoke.add_argument("names", nargs="+", metavar="name")
    rotate = _verb(verbs, "rotate", "give a key a new secret and print it")
    rotate.add_argument("name")
    rotate.add_argument("--overlap", default="1h", help="how long the old secret still holds (%(default)s)")


def _verb(verbs: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
    cluster_arguments(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    cluster = open_cluster(options)
    match options.verb:
        case "create":
            return _create(cluster, options)
        case "list":
            return _list(cluster, options.all_namespaces)
        case "revoke":
            for name in options.names:
                _patch(cluster, name, {"spec": {"disabled": True}})
                print(f"key {name} revoked")
            return 0
        case _:
            return _rotate(cluster, options.name, _period(options.overlap, "--overlap"))


def make_key(identity: str) -> str:
    """A fresh key with this id."""
    return f"kaji_{identity}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def digest(key: str) -> str:
    """What is kept of a key. Its secret has 240 random bits, so nothing slower than SHA-256 is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def _create(cluster: Cluster, options: argparse.Namespace) -> int:
    identity = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    key = make_key(identity)
    spec: dict[str, Any] = {"id": identity, "hashes": [{"sha256": digest(key)}]}
    if options.tenant:
        namespace, _, name = options.tenant.rpartition("/")
        spec["tenantRef"] = {"name": name, **({"namespace": namespace} if namespace else {})}
    if options.models:
        spec["models"] = _parts(options.models)
    if options.routes:
        spec["routes"] = _parts(options.routes)
    if options.budget:
        spec["budgets"] = options.budget
    if options.expires_in:
        spec["expiresAt"] = rfc3339(time.time() + _period(options.expires_in, "--expires-in"))
    manifest = {
        "apiVersion": API_KEYS.api_version,
        "kind": API_KEYS.kind,
        "metadata": {"name": options.name},
        "spec": spec,
    }
    _, warnings = cluster.client.request(
        "POST",
        API_KEYS.path(cluster.namespace),
        query={"fieldManager": FIELD_MANAGER},
        body=json.dumps(manifest).encode(),
    )
    for text in warnings:
        warn(text)
    _show(key, f"key {options.name} created")
    return 0


def _rotate(cluster: Cluster, name: str, overlap_seconds: float) -> int:
    item = cluster.get(API_KEYS, name)
    now = time.time()
    key = make_key(item["spec"]["id"])
    hashes = rotated(item["spec"]["hashes"], digest(key), rfc3339(now), rfc3339(now + overlap_seconds))
    if len(hashes) > _MOST_HASHES:
        raise UsageError(
            f"key {name} has {_MOST_HASHES} secrets that hold already",
            hint="a shorter --overlap, 0s at the least, ends the old ones",
        )
    _patch(
        cluster,
        name,
        # Who rotated it meanwhile must not lose the new secret.
        {"metadata": {"resourceVersion": item["metadata"]["resourceVersion"]}, "spec": {"hashes": hashes}},
    )
    _show(key, f"key {name} has a new secret; the old one holds for {format_age(overlap_seconds)}")
    return 0


def rotated(hashes: list[dict[str, str]], fresh: str, now: str, end: str) -> list[dict[str, str]]:
    """The hashes with a fresh one in front; older ones end at `end`, or where they end before. Times are RFC 3339."""
    kept = [{**item, "notAfter": min(item.get("notAfter", end), end)} for item in hashes]
    kept = [item for item in kept if item["notAfter"] > max(now, item.get("notBefore", now))]
    return [{"sha256": fresh}, *kept]


def _patch(cluster: Cluster, name: str, patch: dict[str, Any]) -> None:
    cluster.client.request(
        "PATCH",
        API_KEYS.path(cluster.namespace, name),
        query={"fieldManager": FIELD_MANAGER},
        body=json.dumps(patch).encode(),
        content_type="application/merge-patch+json",
    )


def _show(key: str, said: str) -> None:
    print(f"{said}. It is shown this once:", file=sys.stderr)
    print(key)


def _list(cluster: Cluster, everywhere: bool) -> int:
    items = cluster.objects(API_KEYS, None if everywhere else "")
    now = rfc3339(time.time())
    rows = [_row(item, now, everywhere) for item in items]
    head = ["NAME", "ID", "TENANT", "MODELS", "ROUTES", "BUDGETS", "EXPIRES", "STATUS"]
    print_rows((["NAMESPACE"] if everywhere else []) + head, rows)
    return 0


def _row(item: dict[str, Any], now: str, everywhere: bool) -> list[str]:
    metadata, spec = item["metadata"], item["spec"]
    tenant = spec.get("tenantRef") or {}
    row = [
        metadata["name"],
        spec["id"],
        "/".join(filter(None, (tenant.get("namespace"), tenant.get("name")))) or "-",
        ",".join(spec.get("models") or ()) or "all",
        ",".join(spec.get("routes") or ()) or "all",
        ",".join(spec.get("budgets") or ()) or "-",
        spec.get("expiresAt") or "never",
        _state(item, now),
    ]
    return [metadata["namespace"], *row] if everywhere else row


def _state(item: dict[str, Any], now: str) -> str:
    spec = item["spec"]
    if spec.get("disabled"):
        return "revoked"
    if (spec.get("expiresAt") or now) < now:
        return "expired"
    for condition in (item.get("status") or {}).get("conditions") or ():
        if condition["type"] == "NotAccepted":
            return str(condition["message"])
    ends = [each.get("notAfter") for each in spec["hashes"]]
    return "rotating" if len(ends) > 1 and any(end and end > now for end in ends) else "valid"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _period(text: str, option: str) -> float:
    """Seconds of a duration that may have days. Raises UsageError."""
    days = re.fullmatch(r"(\d+)d(.*)", text)
    try:
        seconds = int(days[1]) * 86400.0 if days else 0.0
        rest = days[2] if days else text
        seconds += parse_duration_seconds(rest) if rest else 0.0
    except ValueError:
        raise UsageError(f"{option}: {text!r} is no time", hint="such as 30m, 12h or 90d") from None
    if seconds < 0:
        raise UsageError(f"{option}: {text!r} is in the past")
    return seconds
