"""Which API server to talk to, and who we are there: kubeconfig files, or the files that a pod finds mounted.

What comes out is a `ClusterConfig`: values only, nothing connected yet, and nothing secret in its repr. This
module imports neither aiohttp nor msgspec, so the command line may use it for free. Running exec plugins and
reading token files again is the business of `kajitori.kube.credentials`.

Source: the kubeconfig v1 API, and client-go's rules for merging files (the first to set a value wins).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import os
import ssl
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kajitori.base.errors import InvalidManifest, MissingDependency, UnsupportedField, UsageError

SERVICE_ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_NO_CONFIG_HINT = "start the laptop's cluster with `kaji up`, or name a kubeconfig in KUBECONFIG"


@dataclasses.dataclass(frozen=True)
class ExecPlugin:
    """A command that prints an ExecCredential (client.authentication.k8s.io)."""

    command: str
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)
    api_version: str = "client.authentication.k8s.io/v1"
    provide_cluster_info: bool = False
    install_hint: str = ""
    interactive: bool = False


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """One server and one identity.

    server: URL, perhaps with a path. namespace: what to use where none is named. Certificates and keys are PEM.
    unix_socket: where the server is reached instead, without TLS; whoever may open it is who it stands for.
    impersonate: headers that ask the server to act as somebody else.
    """

    server: str
    namespace: str = "default"
    certificate_authority: bytes | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    disable_compression: bool = False
    client_certificate: bytes | None = dataclasses.field(default=None, repr=False)
    client_key: bytes | None = dataclasses.field(default=None, repr=False)
    client_files: tuple[str, str] = ("", "")
    """Files of certificate and key that may be replaced while we run, as those of a node are; empty for none."""
    token: str = dataclasses.field(default="", repr=False)
    token_file: str = ""
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    impersonate: tuple[tuple[str, str], ...] = ()
    exec_plugin: ExecPlugin | None = None
    context: str = ""
    unix_socket: str = ""

    @property
    def is_loopback(self) -> bool:
        host = urllib.parse.urlsplit(self.server).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")

    @property
    def proxy(self) -> str:
        """The proxy to go through, or empty; loopback addresses never go through one of the environment."""
        if self.proxy_url or self.is_loopback:
            return self.proxy_url
        parts = urllib.parse.urlsplit(self.server)
        if urllib.request.proxy_bypass(parts.netloc):
            return ""
        return urllib.request.getproxies().get(parts.scheme, "")

    def ssl_context(
        self, client_certificate: bytes | None = None, client_key: bytes | None = None
    ) -> ssl.SSLContext | None:
        """The TLS settings, or None for a plain http server. A plugin's certificate takes precedence."""
        if self.unix_socket or not self.server.startswith("https:"):
            return None
        certificate, key = client_certificate or self.client_certificate, client_key or self.client_key
        try:
            authority = self.certificate_authority.decode() if self.certificate_authority else None
            context = ssl.create_default_context(cadata=authority)
            # Python 3.13 turned this on; many clusters have certificates that Go accepts and it refuses.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if self.insecure_skip_tls_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if certificate and key:
                _load_client_certificate(context, certificate, key)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise InvalidManifest(
                "a certificate or key of the kubeconfig cannot be read as PEM",
                where=f"context {self.context}",
            ) from error
        return context


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL's Python face reads key pairs from files only; this one exists for a moment and only for us.
    with tempfile.TemporaryDirectory(prefix="kaji-tls-") as folder:
        path = Path(folder) / "pair.pem"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate + b"\n" + key)
        context.load_cert_chain(path)


def load_config(path: str | None = None, context: str | None = None) -> ClusterConfig:
    """The configuration in force: `path`, else the files of KUBECONFIG, else ~/.kube/config, else in-cluster.

    Raises UsageError (nothing found, no such context) or InvalidManifest (a broken file).
    """
    if path is not None:
        return _from_files([Path(path).expanduser()], context, must_exist=True)
    listed = [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if listed:
        return _from_files(listed, context, must_exist=False)
    default = Path.home() / ".kube" / "config"
    if default.exists():
        return _from_files([default], context, must_exist=True)
    if context is None and in_cluster():
        return in_cluster_config()
    raise UsageError("no kubeconfig found", hint=_NO_CONFIG_HINT)


def load_own_config(home: Path, name: str) -> ClusterConfig:
    """What a process of an embedded cluster uses, by the name of its kubeconfig in the cluster's home.

    Beside the kubeconfig is a socket of the same server for the same user: 130 watches over it take 14 MiB less than over TLS.
    """
    kubeconfig = home / "pki" / "clients" / f"{name}.kubeconfig"
    config = load_config(str(kubeconfig))
    socket = kubeconfig.with_suffix(".sock")
    return dataclasses.replace(config, unix_socket=str(socket)) if socket.exists() else config


def in_cluster() -> bool:
    """Whether this process runs in a pod that may talk to its cluster."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT_FOLDER / "token").exists()


def in_cluster_config(folder: Path = SERVICE_ACCOUNT_FOLDER) -> ClusterConfig:
    """The configuration of a pod's service account, from its environment and its mounted files."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise UsageError("KUBERNETES_SERVICE_HOST is not set: this is no pod", hint=_NO_CONFIG_HINT)
    authority, namespace = folder / "ca.crt", folder / "namespace"
    return ClusterConfig(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace.read_text().strip() if namespace.exists() else "default",
        certificate_authority=authority.read_bytes() if authority.exists() else None,
        token_file=str(folder / "token"),
        context="in-cluster",
    )


def contexts(path: str | None = None) -> tuple[list[str], str]:
    """Names of the contexts that can be chosen, and the current one."""
    if path is not None:
        files = [Path(path).expanduser()]
    else:
        listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
        files = listed or [Path.home() / ".kube" / "config"]
    merged = _merge([file for file in files if file.exists()])
    return list(merged.contexts), merged.current_context


@dataclasses.dataclass
class _Merged:
    """Entries by name, each with the folder that its relative paths start from."""

    clusters: dict[str, tuple[Mapping[str, Any], Path]]
    users: dict[str, tuple[Mapping[str, Any], Path]]
    contexts: dict[str, tuple[Mapping[str, Any], Path]]
    current_context: str = ""


def _merge(files: Iterable[Path]) -> _Merged:
    merged = _Merged({}, {}, {})
    for file in files:
        document = _read_document(file)
        for key, target, singular in (
            ("clusters", merged.clusters, "cluster"),
            ("users", merged.users, "user"),
            ("contexts", merged.contexts, "context"),
        ):
            for entry in document.get(key) or ():
                name, body = _named_entry(file, key, singular, entry)
                target.setdefault(name, (body, file.parent))
        merged.current_context = merged.current_context or str(document.get("current-context") or "")
    return merged


def _read_document(file: Path) -> Mapping[str, Any]:
    try:
        written = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the kubeconfig: {error.strerror}", where=str(file)) from error
    document = _as_json(written) or _as_yaml(file, written)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidManifest("not a kubeconfig: expected a mapping", where=str(file))
    return document


def _as_json(written: bytes) -> Any:
    """What is written, if it is JSON, as in the files of an embedded cluster's own processes: YAML's library is 1 MB."""
    if not written.startswith(b"{"):
        return None
    try:
        return json.loads(written)
    except ValueError:
        return None


def _as_yaml(file: Path, written: bytes) -> Any:
    import yaml

    try:
        return yaml.load(written, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        # The snippet that PyYAML would show may hold a key: the line number must do.
        raise InvalidManifest(
            f"line {line}: not YAML: {error.problem or 'cannot be parsed'}", where=str(file)
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidManifest("not YAML", where=str(file)) from error


def _named_entry(file: Path, key: str, singular: str, entry: Any) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InvalidManifest("expected a mapping with `name`", where=f"{file}: {key}[]")
    body = entry.get(singular) or {}
    if not isinstance(body, dict):
        raise InvalidManifest("expected a mapping", where=f"{file}: {key}[{entry['name']}].{singular}")
    return entry["name"], body


def _from_files(files: list[Path], context: str | None, *, must_exist: bool) -> ClusterConfig:
    present = [file for file in files if file.exists()]
    if not present:
        raise UsageError(
            "no such kubeconfig" if must_exist else "none of the files in KUBECONFIG exists",
            where=os.pathsep.join(str(file) for file in files),
            hint="is the path right?" if must_exist else _NO_CONFIG_HINT,
        )
    merged, where = _merge(present), os.pathsep.join(str(file) for file in present)
    chosen = context or merged.current_context
    if not chosen:
        raise UsageError("no context is current", where=where, hint="choose one with --context")
    if chosen not in merged.contexts:
        known = ", ".join(merged.contexts) or "none"
        raise UsageError(f"no context {chosen!r}", where=where, hint=f"contexts: {known}")
    choice = merged.contexts[chosen][0]
    cluster, cluster_folder = merged.clusters.get(str(choice.get("cluster") or ""), ({}, Path()))
    user, user_folder = merged.users.get(str(choice.get("user") or ""), ({}, Path()))
    if not cluster.get("server"):
        raise InvalidManifest("the context's cluster is missing or has no server", where=f"{where}: {chosen}")
    return ClusterConfig(
        server=str(cluster["server"]).rstrip("/"),
        namespace=str(choice.get("namespace") or "default"),
        context=chosen,
        **_cluster_fields(cluster, cluster_folder, f"{where}: cluster {choice.get('cluster')}"),
        **_user_fields(user, user_folder, f"{where}: user {choice.get('user')}"),
    )


def _cluster_fields(cluster: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    return {
        "certificate_authority": _material(cluster, "certificate-authority", folder, where),
        "insecure_skip_tls_verify": bool(cluster.get("insecure-skip-tls-verify")),
        "tls_server_name": str(cluster.get("tls-server-name") or ""),
        "proxy_url": str(cluster.get("proxy-url") or ""),
        "disable_compression": bool(cluster.get("disable-compression")),
    }


def _user_fields(user: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    if user.get("auth-provider"):
        raise UnsupportedField(
            "auth-provider was removed from Kubernetes 1.26", where=where, hint="use an exec plugin instead"
        )
    token_file = str(user.get("tokenFile") or "")
    files = tuple(
        "" if user.get(f"{key}-data") or not user.get(key) else str(folder / str(user[key]))
        for key in ("client-certificate", "client-key")
    )
    return {
        "client_files": files if all(files) else ("", ""),
        "client_certificate": _material(user, "client-certificate", folder, where),
        "client_key": _material(user, "client-key", folder, where),
        "token": str(user.get("token") or ""),
        "token_file": str(folder / token_file) if token_file else "",
        "username": str(user.get("username") or ""),
        "password": str(user.get("password") or ""),
        "impersonate": tuple(_impersonation(user)),
        "exec_plugin": _exec_plugin(user["exec"], folder, where) if user.get("exec") else None,
    }


def _material(entry: Mapping[str, Any], key: str, folder: Path, where: str) -> bytes | None:
    """Inline data wins over a file, as in client-go."""
    data, file = entry.get(f"{key}-data"), entry.get(key)
    if data:
        try:
            return base64.b64decode(str(data), validate=True)
        except binascii.Error:
            raise InvalidManifest("not base64", where=f"{where}: {key}-data") from None
    if not file:
        return None
    try:
        return (folder / str(file)).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {folder / str(file)}: {error.strerror}", where=where) from error


def _impersonation(user: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if user.get("as"):
        yield "Impersonate-User", str(user["as"])
    if user.get("as-uid"):
        yield "Impersonate-Uid", str(user["as-uid"])
    for group in user.get("as-groups") or ():
        yield "Impersonate-Group", str(group)
    for key, values in (user.get("as-user-extra") or {}).items():
        for value in values:
            yield f"Impersonate-Extra-{urllib.parse.quote(str(key).lower(), safe='')}", str(value)


def _exec_plugin(spec: Mapping[str, Any], folder: Path, where: str) -> ExecPlugin:
    command = str(spec.get("command") or "")
    if not command:
        raise InvalidManifest("exec needs a command", where=where)
    version = str(spec.get("apiVersion") or "")
    if version not in ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"):
        raise UnsupportedField(
            f"exec plugins of {version or 'no apiVersion'} are not supported",
            where=where,
            hint="expected client.authentication.k8s.io/v1",
        )
    # A bare name is looked up in PATH; anything with a separator is relative to the kubeconfig.
    if os.sep in command:
        command = str(folder / command)
    return ExecPlugin(
        command=command,
        args=tuple(str(argument) for argument in spec.get("args") or ()),
        env=tuple((str(item["name"]), str(item.get("value") or "")) for item in spec.get("env") or ()),
        api_version=version,
        provide_cluster_info=bool(spec.get("provideClusterInfo")),
        install_hint=" ".join(str(spec.get("installHint") or "").split()),
        interactive=spec.get("interactiveMode") == "Always",
    )


def missing_plugin(plugin: ExecPlugin) -> MissingDependency:
    """The error for a plugin that is not installed."""
    return MissingDependency(
        f"the kubeconfig's exec plugin {plugin.command!r} was not found", hint=plugin.install_hint
    )
