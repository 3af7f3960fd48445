"""The cluster that a command talks to: which kubeconfig, which kinds it serves, short reads and streams."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kajitori.api.resource import Resource
from kajitori.base.errors import NotFound, UsageError
from kajitori.kube.config import ClusterConfig, load_config
from kajitori.kube.direct import DirectClient

GATEWAY_HOME = "~/.kaji-gateway"
"""Where `kaji gateway run` keeps what it knows."""

_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass(frozen=True)
class Served:
    """A resource that the cluster serves, with the words that people use for it."""

    resource: Resource
    singular: str
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    verbs: tuple[str, ...]

    @property
    def title(self) -> str:
        """As `get -o name` prints it before a slash: `pod`, `deployment.apps`."""
        group = self.resource.group
        return f"{self.singular}.{group}" if group else self.singular

    @property
    def words(self) -> set[str]:
        return {self.resource.plural, self.singular, self.resource.kind.lower(), *self.short_names}


def cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which cluster and namespace."""
    parser.add_argument("-n", "--namespace", help="the namespace (default: the context's)")
    parser.add_argument("--kubeconfig", help="path of the kubeconfig")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--home", type=Path, help="the local cluster's folder")


def local_home(options: argparse.Namespace) -> Path:
    """The local cluster's folder: `--home`, `$KAJI_HOME` or `~/.kaji`."""
    home: Path | None = getattr(options, "home", None)
    return home or Path(os.environ.get("KAJI_HOME") or Path.home() / ".kaji")


def is_local(options: argparse.Namespace) -> bool:
    """Whether the local cluster is meant: by its folder, by its kubeconfig, or as nothing else is named."""
    if getattr(options, "home", None) is not None:
        return True
    local = local_home(options) / "kubeconfig"
    path = getattr(options, "kubeconfig", None) or os.environ.get("KUBECONFIG")
    return local.exists() if path is None else Path(path).absolute() == local.absolute()


def cluster_config(options: argparse.Namespace) -> ClusterConfig:
    """Of the cluster that the options, the environment or the local cluster's folder name.

    Raises UsageError where no kubeconfig is found.
    """
    path: str | None = getattr(options, "kubeconfig", None)
    local = local_home(options) / "kubeconfig"
    named = getattr(options, "home", None) is not None
    if path is None and (named or (not os.environ.get("KUBECONFIG") and local.exists())):
        path = str(local)
    if path == str(local) and not local.exists():
        raise UsageError(f"no cluster in {local.parent}", hint="`kaji up` starts one")
    if path is None and _only_a_gateway():
        hint = f"`--home {GATEWAY_HOME}` names that of `kaji gateway run`, and `kaji up` starts a cluster"
        raise UsageError("no cluster is named", hint=hint)
    return load_config(path, getattr(options, "context", None))


def _only_a_gateway() -> bool:
    """Whether nothing runs here that is known of but a gateway without a cluster."""
    known = os.environ.get("KUBECONFIG") or Path("~/.kube/config").expanduser().exists()
    return not known and (Path(GATEWAY_HOME).expanduser() / "kubeconfig").exists()


def open_cluster(options: argparse.Namespace) -> Cluster:
    """A client of the cluster that is meant. Raises UsageError where no kubeconfig is found."""
    config = cluster_config(options)
    return Cluster(DirectClient(config), getattr(options, "namespace", None) or config.namespace or "default")


def split_names(what: str, names: list[str], command: str) -> tuple[str, list[str]]:
    """The resource's word and the names of `pod web`, `pod/web` and `pod/web pod/shop`.

    Raises UsageError where a name has a resource of its own that is another one.
    """
    word, _, single = what.partition("/")
    found = [single] if single else []
    for name in names:
        own, slash, rest = name.partition("/")
        if slash and (not single or own != word or not rest):
            raise UsageError(
                f"{name!r} is not a name", hint=f"kaji {command} {name if rest else f'{word} NAME'}"
            )
        found.append(rest if slash else name)
    return word, found


class Cluster:
    """Short, synchronous requests to one cluster, in a namespace."""

    def __init__(self, client: DirectClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self._served: list[Served] | None = None
        self._kinds: dict[tuple[str, str], Resource] = {}

    def served(self) -> list[Served]:
        """All resources in their preferred versions, core first. Asked for once."""
        if self._served is None:
            self._served = []
            for path in ("/api", "/apis"):
                self._served += _served_resources(self.client.get(path, accept=_DISCOVERY))
        return self._served

    def find(self, word: str) -> Served:
        """The resource that a person means by `po`, `pod`, `Pod`, `pods`, `lws`, `deployments.apps`.

        Raises UsageError with the nearest word.
        """
        name, _, group = word.lower().partition(".")
        for served in self.served():
            if name in served.words and (not group or served.resource.group.startswith(group)):
                return served
        from difflib import get_close_matches

        near = get_close_matches(name, {each for served in self.served() for each in served.words}, n=1)
        raise UsageError(
            f"the cluster serves no {word!r}",
            hint=f"did you mean {near[0]!r}?" if near else "`kubectl api-resources`",
        )

    def find_category(self, word: str) -> list[Served]:
        """The resources of a word: those of a category such as `all`, of a list `a,b`, or the one it names."""
        found = [served for served in self.served() if word in served.categories]
        return found or [self.find(part) for part in word.split(",") if part]

    def find_kind(self, api_version: str, kind: str) -> Resource:
        """The resource of an object's apiVersion and kind. Raises UsageError if the cluster does not serve it."""
        known = self._kinds.get((api_version, kind))
        if known is not None:
            return known
        group, _, version = api_version.rpartition("/")
        try:
            listed = self.client.get(f"/apis/{group}/{version}" if group else f"/api/{version}")["resources"]
        except NotFound:
            listed = []
        for entry in listed:
            if "/" not in entry["name"]:
                served = Resource(group, version, entry["name"], entry["kind"], bool(entry["namespaced"]))
                self._kinds[api_version, entry["kind"]] = served
        if (api_version, kind) in self._kinds:
            return self._kinds[api_version, kind]
        raise UsageError(
            f"the cluster serves no {kind} in {api_version}", hint=self._nearest_kind(group, kind)
        )

    def _nearest_kind(self, group: str, kind: str) -> str:
        from difflib import get_close_matches

        served = [each.resource for each in self.served()]
        near = [each for each in served if each.kind.lower() == kind.lower()]
        if not near:
            of_group = {each.kind: each for each in served if each.group == group}
            near = [of_group[name] for name in get_close_matches(kind, of_group, n=1, cutoff=0.7)]
        if near:
            return f"it serves {near[0].kind} in {near[0].api_version}"
        return "is its CustomResourceDefinition installed?"

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        return self.client.get(resource.path(namespace or self.namespace, name))

    def objects(self, resource: Resource, namespace: str | None = "", **query: str) -> list[dict[str, Any]]:
        """The objects of a collection; namespace "" is the command's own, None means all."""
        path = resource.path(self.namespace if namespace == "" else namespace)
        return self.client.get(path, query={key: value for key, value in query.items() if value})["items"]

    def names(self, word: str) -> list[str]:
        """The names of a resource's objects in this namespace."""
        items = self.objects(self.find(word).resource)
        return [item["metadata"]["name"] for item in items]

    def resource_names(self) -> list[str]:
        return sorted(served.resource.plural for served in self.served() if "list" in served.verbs)

    def model_names(self) -> list[str]:
        """Every model that a route names."""
        found: set[str] = set()
        for route in self.objects(self.find("aigatewayroutes").resource, None):
            for rule in route["spec"].get("rules") or []:
                for match in rule.get("matches") or []:
                    for header in match.get("headers") or []:
                        if header["name"] == "x-ai-eg-model":
                            found.add(header["value"])
        return sorted(found)

    def watch(self, path: str, query: dict[str, str], accept: str) -> Iterator[dict[str, Any]]:
        """Events until the server ends the stream."""
        return self.client.stream(path, query={**query, "watch": "true"}, accept=accept)


def _served_resources(document: dict[str, Any]) -> Iterator[Served]:
    for group in document.get("items") or []:
        name = group["metadata"].get("name", "")
        seen: set[str] = set()
        for version in group["versions"]:
            for entry in version["resources"]:
                if entry["resource"] in seen:  # an earlier version is the preferred one
                    continue
                seen.add(entry["resource"])
                yield Served(
                    Resource(
                        name,
                        version["version"],
                        entry["resource"],
                        entry["responseKind"]["kind"],
                        entry["scope"] == "Namespaced",
                    ),
                    entry.get("singularResource") or entry["responseKind"]["kind"].lower(),
                    tuple(entry.get("shortNames") or ()),
                    tuple(entry.get("categories") or ()),
                    tuple(entry.get("verbs") or ()),
                )
