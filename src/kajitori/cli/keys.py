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

from kajitori.api.resource import API_KEYS, BUDGETS, TENANTS, Resource
from kajitori.base.clock import rfc3339
from kajitori.base.duration import format_age, parse_duration_seconds
from kajitori.base.errors import AlreadyExists, NotFound, UsageError
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
    spec |= _scope(options)
    manifest = {
        "apiVersion": API_KEYS.api_version,
        "kind": API_KEYS.kind,
        "metadata": {"name": options.name},
        "spec": spec,
    }
    try:
        _, warnings = cluster.client.request(
            "POST",
            API_KEYS.path(cluster.namespace),
            query={"fieldManager": FIELD_MANAGER},
            body=json.dumps(manifest).encode(),
        )
    except AlreadyExists as error:
        error.hint = error.hint or f"`kaji keys rotate {options.name}` gives it a new secret"
        raise
    for text in (*warnings, *_missing(cluster, spec)):
        warn(text)
    _show(key, f"key {options.name} created")
    return 0


def _scope(options: argparse.Namespace) -> dict[str, Any]:
    """What the key is for. An option that names nothing is refused: without it the key may use everything."""
    spec: dict[str, Any] = {}
    if options.tenant is not None:
        namespace, slash, name = options.tenant.rpartition("/")
        if not name or (slash and not namespace):
            raise UsageError(f"--tenant: {options.tenant!r} names no tenant", hint="NAME or NAMESPACE/NAME")
        spec["tenantRef"] = {"name": name, **({"namespace": namespace} if namespace else {})}
    for option in ("models", "routes"):
        text = getattr(options, option)
        if text is not None:
            spec[option] = _parts(text)
            if not spec[option]:
                raise UsageError(
                    f"--{option}: {text!r} names none",
                    hint=f"leave --{option} out for a key that may use all",
                )
    if options.budget:
        if not all(options.budget):
            raise UsageError("--budget: '' names no Budget")
        spec["budgets"] = options.budget
    if options.expires_in is not None:
        seconds = _period(options.expires_in, "--expires-in")
        if seconds <= 0:
            raise UsageError(f"--expires-in: after {options.expires_in!r} the key is over at once")
        spec["expiresAt"] = rfc3339(time.time() + seconds)
    return spec


def _missing(cluster: Cluster, spec: dict[str, Any]) -> list[str]:
    """What the key names and is not there yet."""
    tenant = spec.get("tenantRef") or {}
    named: list[tuple[Resource, str, str]] = [
        (BUDGETS, cluster.namespace, name) for name in spec.get("budgets", ())
    ]
    if tenant:
        named.append((TENANTS, tenant.get("namespace") or cluster.namespace, tenant["name"]))
    found: list[str] = []
    for resource, namespace, name in named:
        try:
            cluster.get(resource, name, namespace)
        except NotFound:
            found.append(
                f"{resource.kind} {namespace}/{name} does not exist; until it does the key is refused"
            )
    return found


def _rotate(cluster: Cluster, name: str, overlap_seconds: float) -> int:
    try:
        item = cluster.get(API_KEYS, name)
    except NotFound as error:
        raise _unknown(error) from None
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
    old = f"holds for {format_age(overlap_seconds)}" if overlap_seconds > 0 else "is refused from now on"
    _show(key, f"key {name} has a new secret; the old one {old}")
    return 0


def rotated(hashes: list[dict[str, str]], fresh: str, now: str, end: str) -> list[dict[str, str]]:
    """The hashes with a fresh one in front; older ones end at `end`, or where they end before. Times are RFC 3339."""
    kept = [{**item, "notAfter": min(item.get("notAfter", end), end)} for item in hashes]
    kept = [item for item in kept if item["notAfter"] > max(now, item.get("notBefore", now))]
    return [{"sha256": fresh}, *kept]


def _patch(cluster: Cluster, name: str, patch: dict[str, Any]) -> None:
    try:
        cluster.client.request(
            "PATCH",
            API_KEYS.path(cluster.namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body=json.dumps(patch).encode(),
            content_type="application/merge-patch+json",
        )
    except NotFound as error:
        raise _unknown(error) from None


def _unknown(error: NotFound) -> NotFound:
    error.hint = error.hint or "`kaji keys list -A` lists keys, and -n names the namespace"
    return error


def _show(key: str, said: str) -> None:
    print(f"{said}. It is shown this once:", file=sys.stderr)
    print(key)


def _list(cluster: Cluster, everywhere: bool) -> int:
    items = cluster.objects(API_KEYS, None if everywhere else "")
    now = rfc3339(time.time())
    rows = [_row(item, now, everywhere) for item in items]
    if not rows:
        print(f"no keys{'' if everywhere else f' in namespace {cluster.namespace}'}", file=sys.stderr)
        return 0
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
        message = str(condition.get("message") or "")
        if condition["type"] == "NotAccepted":
            return message
        if condition["type"] == "Accepted" and "refused" in message:
            return message.rpartition("; ")[2]  # its tenant is disabled
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
