"""What a user may choose of an installation: defaults, their meaning, and how files and `--set` change them.

The same structs give the chart's values.yaml and values.schema.json, and the table in the documentation.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from kajitori import __version__
from kajitori.base.errors import InvalidManifest, UsageError
from kajitori.gateway.accounting.header_attributes import (
    BASE,
    METRICS,
    SESSION,
    SPANS,
    read_header_attributes,
)

ENVOY_VERSION = "1.40.0"
Quantity = str | int | float
Positive = Annotated[int, Meta(ge=1)]
Replicas = Annotated[int, Meta(ge=1, le=100)]
Port = Annotated[int, Meta(ge=1024, le=65535)]


class _Section(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class Image(_Section):
    repository: Annotated[str, Meta(description="Where the image is.", min_length=1)] = "kajitori/kajitori"
    tag: Annotated[str, Meta(description="Its tag; a digest may follow after `@`.", min_length=1)] = (
        __version__
    )
    pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], Meta(description="When it is fetched.")
    ] = "IfNotPresent"


class EnvoyImage(Image):
    repository: Annotated[str, Meta(description="Where the image is.", min_length=1)] = "envoyproxy/envoy"
    tag: Annotated[
        str,
        Meta(
            description="Must be of the version that the gateway was built for: fields of Envoy move.",
            min_length=1,
        ),
    ] = f"v{ENVOY_VERSION}"


class Resources(_Section):
    requests: Annotated[dict[str, Quantity], Meta(description="What is set aside for each pod.")] = field(
        default_factory=lambda: {"cpu": "100m", "memory": "128Mi"}
    )
    limits: Annotated[dict[str, Quantity], Meta(description="What each pod may not exceed.")] = field(
        default_factory=lambda: {"memory": "512Mi"}
    )


class Placement(_Section):
    node_selector: Annotated[dict[str, str], Meta(description="Labels of nodes that may run it.")] = {}
    tolerations: Annotated[list[dict[str, Any]], Meta(description="Taints that it puts up with.")] = []
    affinity: Annotated[dict[str, Any], Meta(description="As in a pod.")] = {}


class Groups(_Section):
    enabled: Annotated[bool, Meta(description="Serve LeaderWorkerSets, DisaggregatedSets and JobSets.")] = (
        True
    )
    yield_to_upstream: Annotated[
        bool,
        Meta(
            description="Stand back from a kind while its controller of kubernetes-sigs runs in the cluster; false: act all the same."
        ),
    ] = True
    gang_gates: Annotated[
        bool,
        Meta(
            description="Hold back the pods of groups that ask for devices until there is room for a whole group."
        ),
    ] = True
    in_place_restart: Annotated[
        bool,
        Meta(
            description="Grant the right to run commands in pods, for sets whose groups shall restart in place."
        ),
    ] = False
    replicas: Annotated[Replicas, Meta(description="Processes, of which one acts.")] = 2
    resources: Resources = field(default_factory=Resources)
    placement: Placement = field(default_factory=Placement)


class Gateway(_Section):
    enabled: Annotated[bool, Meta(description="Serve Gateways and their routes.")] = True
    yield_to_upstream: Annotated[
        bool,
        Meta(
            description="Leave AIGatewayRoutes to Envoy AI Gateway and classes of Envoy Gateway to it while they run; false: act all the same."
        ),
    ] = True
    class_name: Annotated[str, Meta(description="Name of the GatewayClass that is made; empty for none.")] = (
        "kajitori"
    )
    replicas: Annotated[Replicas, Meta(description="Processes; each serves Envoys, one writes statuses.")] = 2
    resources: Resources = field(
        default_factory=lambda: Resources(
            requests={"cpu": "200m", "memory": "256Mi"}, limits={"memory": "1Gi"}
        )
    )
    placement: Placement = field(default_factory=Placement)
    secret_namespaces: Annotated[
        list[str],
        Meta(
            description="Namespaces whose Secrets the gateway may read, each by a Role of its own; empty: all, by a ClusterRole. Only Secrets that a BackendSecurityPolicy names are read either way."
        ),
    ] = []
    service_account_annotations: Annotated[
        dict[str, str],
        Meta(
            description="Of the gateway's service account, such as a cloud's role for provider credentials."
        ),
    ] = {}
    request_header_attributes: Annotated[
        str,
        Meta(
            description="Headers of clients that spans and metrics tell, as `header:attribute,header:attribute`."
        ),
    ] = ""
    span_request_header_attributes: Annotated[str, Meta(description="Likewise, for spans alone.")] = SESSION
    metrics_request_header_attributes: Annotated[str, Meta(description="Likewise, for metrics alone.")] = ""


class EnvoyService(_Section):
    type: Annotated[
        Literal["LoadBalancer", "ClusterIP", "NodePort"], Meta(description="How Gateways are reached.")
    ] = "LoadBalancer"
    annotations: Annotated[
        dict[str, str], Meta(description="For the cloud's load balancer, among others.")
    ] = {}
    external_traffic_policy: Annotated[
        Literal["", "Cluster", "Local"],
        Meta(description="Local keeps clients' addresses; empty: the default."),
    ] = ""
    load_balancer_class: Annotated[str, Meta(description="Which load balancer; empty: the default.")] = ""
    load_balancer_source_ranges: Annotated[
        list[str], Meta(description="From where it may be reached; empty: from everywhere.")
    ] = []


class Accountant(_Section):
    ledger_size: Annotated[str, Meta(description="Limit of the request records of each Envoy.")] = "1Gi"
    env: Annotated[
        list[dict[str, Any]],
        Meta(
            description="Further environment variables, as in a pod: OTEL_EXPORTER_OTLP_ENDPOINT and others export spans and metrics."
        ),
    ] = []
    resources: Resources = field(
        default_factory=lambda: Resources(
            requests={"cpu": "100m", "memory": "96Mi"}, limits={"memory": "512Mi"}
        )
    )


class Envoy(_Section):
    image: EnvoyImage = field(default_factory=EnvoyImage)
    replicas: Annotated[Replicas, Meta(description="Envoys; each carries any request.")] = 2
    concurrency: Annotated[Positive, Meta(description="Worker threads of each.")] = 2
    drain_seconds: Annotated[
        int, Meta(description="How long an Envoy that is to end goes on serving what it has.", ge=1)
    ] = 30
    service: EnvoyService = field(default_factory=EnvoyService)
    resources: Resources = field(
        default_factory=lambda: Resources(
            requests={"cpu": "500m", "memory": "256Mi"}, limits={"memory": "2Gi"}
        )
    )
    accountant: Accountant = field(default_factory=Accountant)
    placement: Placement = field(default_factory=Placement)


class LeaderElection(_Section):
    lease_seconds: Annotated[
        Positive, Meta(description="A Lease that was not renewed for so long is free.")
    ] = 15
    renew_deadline_seconds: Annotated[
        Positive, Meta(description="A leader that could not renew for so long stops.")
    ] = 10
    retry_seconds: Annotated[Positive, Meta(description="Between two attempts.")] = 2


class Toggle(_Section):
    enabled: Annotated[bool, Meta(description="Whether they are made.")] = True


class PriorityClass(_Section):
    create: Annotated[bool, Meta(description="Make a PriorityClass for Kajitori's own pods.")] = True
    name: Annotated[str, Meta(description="Its name, or of one that is there; empty: none.")] = "kajitori"
    value: Annotated[
        int, Meta(description="Above the workloads that it serves.", ge=-2147483648, le=1000000000)
    ] = 1_000_000


class Values(_Section):
    """Every choice of an installation."""

    image: Image = field(default_factory=Image)
    image_pull_secrets: Annotated[
        list[dict[str, str]], Meta(description="Secrets for a private registry: `- name: x`.")
    ] = []
    groups: Groups = field(default_factory=Groups)
    gateway: Gateway = field(default_factory=Gateway)
    envoy: Envoy = field(default_factory=Envoy)
    leader_election: LeaderElection = field(default_factory=LeaderElection)
    network_policies: Toggle = field(default_factory=Toggle)
    pod_disruption_budgets: Toggle = field(default_factory=Toggle)
    priority_class: PriorityClass = field(default_factory=PriorityClass)


def defaults() -> dict[str, Any]:
    """All values as they are if nobody chooses."""
    return msgspec.to_builtins(Values())


def complete(chosen: Mapping[str, Any], where: str = "values") -> dict[str, Any]:
    """The defaults with what was chosen laid over. Raises InvalidManifest that names the field."""
    merged = overlay(defaults(), chosen)
    try:
        values = msgspec.convert(merged, Values)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        place = path.strip("`").removeprefix("$.") if path else ""
        raise InvalidManifest(
            f"{place + ': ' if place else ''}{text[:1].lower()}{text[1:]}",
            where=where,
            hint="docs/reference/installation.md lists what there is",
        ) from None
    election = values.leader_election
    if not election.retry_seconds < election.renew_deadline_seconds < election.lease_seconds:
        raise InvalidManifest(
            "leaderElection: retrySeconds < renewDeadlineSeconds < leaseSeconds must hold", where=where
        )
    gateway = values.gateway
    try:
        read_header_attributes(
            {
                BASE: gateway.request_header_attributes,
                SPANS: gateway.span_request_header_attributes,
                METRICS: gateway.metrics_request_header_attributes,
            }
        )
    except UsageError as error:
        raise InvalidManifest(f"gateway: {error}", where=where) from None
    if values.priority_class.create and not values.priority_class.name:
        raise InvalidManifest("priorityClass: one that is made needs a name", where=where)
    return msgspec.to_builtins(values)


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: mappings member by member, all else as a whole; null brings the default back."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if value is None and key in merged:
            continue
        merged[key] = overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def read_choices(files: Sequence[str], settings: Sequence[str]) -> dict[str, Any]:
    """What values files (later ones win) and `a.b=c` settings (after them) choose.

    Raises UsageError or InvalidManifest.
    """
    import yaml

    chosen: dict[str, Any] = {}
    for file in files:
        try:
            document = yaml.safe_load(Path(file).read_text())
        except OSError as error:
            raise UsageError(f"cannot read the values: {error.strerror}", where=file) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidManifest(f"malformed YAML: {error}", where=file) from None
        if document is None:
            continue
        if not isinstance(document, dict):
            raise InvalidManifest("expected a mapping of values", where=file)
        chosen = overlay(chosen, document)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not all(path.split(".")):
            raise UsageError(f"--set {setting!r} is not a.b=value")
        try:
            value: Any = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        for name in reversed(path.split(".")):
            value = {name: value}
        _check_setting(setting, path, value)
        chosen = overlay(chosen, value)
    return chosen


def _check_setting(setting: str, path: str, chosen: Mapping[str, Any]) -> None:
    """Raise UsageError for a choice that there is not, or a value that it cannot have, and say what there is."""
    known = {here: kind for here, kind, _, _ in rows()}
    here = next((one for one in known if path == one or path.startswith(f"{one}.")), None)
    if here is None and not any(one.startswith(f"{path}.") for one in known):
        near = get_close_matches(path, known, n=3, cutoff=0.4)
        raise UsageError(
            f"--set {setting}: there is no choice {path!r}",
            hint=f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}",
        )
    try:
        msgspec.convert(overlay(defaults(), chosen), Values)
    except msgspec.ValidationError as error:
        if here is None:
            below = ", ".join(one for one in known if one.startswith(f"{path}."))
            raise UsageError(
                f"--set {setting}: {path} has choices of its own", hint=f"they are {below}"
            ) from None
        expected = f"expected {known[here].replace('`', '')}"
        if known[here] in ("list", "mapping"):
            expected += f": {str(error).partition(' - at ')[0].replace('`', '').lower()}"
        raise UsageError(
            f"--set {setting}: {expected}",
            hint="docs/reference/installation.md lists what there is",
        ) from None


def rows(section: type[msgspec.Struct] = Values, path: str = "") -> Iterator[tuple[str, str, Any, str]]:
    """Path, type, default and meaning of each value, in order."""
    hints = typing.get_type_hints(section, include_extras=True)
    blank = section()
    for each in msgspec.structs.fields(section):
        kind = hints[each.name]
        here = f"{path}.{each.encode_name}" if path else each.encode_name
        default: Any = getattr(blank, each.name)
        if isinstance(default, msgspec.Struct):
            yield from _section_rows(default, here)
        else:
            yield here, _type_name(kind), default, _meaning(kind)


def _section_rows(section: msgspec.Struct, path: str) -> Iterator[tuple[str, str, Any, str]]:
    for here, kind, default, meaning in rows(type(section), path):
        found: Any = msgspec.to_builtins(section)
        for name in here.removeprefix(f"{path}.").split("."):
            found = found[name]
        yield here, kind, found if not isinstance(found, msgspec.Struct) else default, meaning


def _meaning(kind: Any) -> str:
    notes = [meta.description for meta in getattr(kind, "__metadata__", ()) if meta.description]
    return notes[-1] if notes else ""


def _type_name(kind: Any) -> str:
    inner = typing.get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    origin = typing.get_origin(inner)
    if origin is Literal:
        return " or ".join(f"`{value}`" if value else "empty" for value in typing.get_args(inner))
    return {int: "integer", str: "string", bool: "boolean", list: "list", dict: "mapping"}.get(
        origin or inner, "integer"
    )


def schema() -> dict[str, Any]:
    """JSON schema of the values, for Helm and editors."""
    made = msgspec.json.schema(Values)
    definitions = made.pop("$defs")
    root = definitions.pop("Values")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **json.loads(json.dumps(root).replace("#/$defs/", "#/definitions/")),
        # Helm lays these over every chart's values.
        "properties": {
            **json.loads(json.dumps(root["properties"]).replace("#/$defs/", "#/definitions/")),
            "global": {"type": "object"},
        },
        "definitions": json.loads(json.dumps(definitions).replace("#/$defs/", "#/definitions/")),
    }
