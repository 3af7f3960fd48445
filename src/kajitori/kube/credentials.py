"""Credentials in force now: constant ones, files of a token or a certificate read again as they rotate, an exec
plugin run again when what it gave expires or is refused.

`Credentials.current()` may start a process and therefore blocks; the asynchronous client calls it in a thread
only where that can happen. Tokens appear in headers and nowhere else, never in an error or a log line.

Source: Kubernetes, "client-go credential plugins" (client.authentication.k8s.io/v1).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from kajitori.base.clock import parse_rfc3339
from kajitori.base.errors import Unauthorized
from kajitori.kube.config import ClusterConfig, ExecPlugin, missing_plugin

# The kubelet swaps a projected token well before it expires; client-go looks again every minute too.
_TOKEN_FILE_SECONDS = 60.0
_CERTIFICATE_FILE_SECONDS = 60.0
# A token is renewed this long before its end, so that a slow request does not arrive with a dead one.
_EXPIRY_MARGIN_SECONDS = 10.0
_PLUGIN_TIMEOUT_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Identity:
    """Headers to send and the TLS settings to send them over."""

    headers: tuple[tuple[str, str], ...] = dataclasses.field(repr=False)
    ssl_context: ssl.SSLContext | None


class Credentials:
    """Gives the identity for the next request; safe to use from several threads."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._identity: Identity | None = None
        self._valid_until = 0.0
        self._client_pair = (config.client_certificate, config.client_key)

    @property
    def may_change(self) -> bool:
        """Whether a refused request may succeed with fresh credentials."""
        config = self._config
        return config.exec_plugin is not None or bool(config.token_file) or any(config.client_files)

    def cached(self) -> Identity | None:
        """The identity if it is known and still good: never blocks."""
        return self._identity if time.monotonic() < self._valid_until else None

    def current(self) -> Identity:
        """The identity; runs the plugin or reads the file where needed."""
        with self._lock:
            identity = self.cached()
            if identity is None:
                identity, lifetime_seconds = self._renew()
                self._identity, self._valid_until = identity, time.monotonic() + lifetime_seconds
            return identity

    def refused(self, identity: Identity) -> None:
        """The server answered 401 to it: do not offer it again."""
        with self._lock:
            if self._identity is identity:
                self._valid_until = 0.0

    def _renew(self) -> tuple[Identity, float]:
        config, known = self._config, self._identity
        if config.exec_plugin is not None:
            given = run_exec_plugin(config.exec_plugin, config)
            headers = _headers(config, given.token)
            context = config.ssl_context(given.client_certificate, given.client_key)
            return Identity(headers, context), given.lifetime_seconds
        pair = _read_pair(config.client_files) or self._client_pair
        if known is None or pair != self._client_pair:
            context = config.ssl_context(*pair)
        else:
            context = known.ssl_context
        self._client_pair = pair
        if config.token_file:
            token = _read_token(config.token_file) or config.token
            return Identity(_headers(config, token), context), _TOKEN_FILE_SECONDS
        lifetime = _CERTIFICATE_FILE_SECONDS if any(config.client_files) else float("inf")
        return Identity(_headers(config, config.token), context), lifetime


def _headers(config: ClusterConfig, token: str) -> tuple[tuple[str, str], ...]:
    headers = list(config.impersonate)
    if token:
        headers.append(("Authorization", f"Bearer {token}"))
    elif config.username:
        pair = base64.b64encode(f"{config.username}:{config.password}".encode()).decode()
        headers.append(("Authorization", f"Basic {pair}"))
    return tuple(headers)


def _read_pair(files: tuple[str, str]) -> tuple[bytes, bytes] | None:
    """Certificate and key; None where there are no files, or not now: what was read before goes on to serve."""
    try:
        return (Path(files[0]).read_bytes(), Path(files[1]).read_bytes()) if all(files) else None
    except OSError:
        return None


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise Unauthorized(f"cannot read the token file: {error.strerror}", where=path) from error


@dataclasses.dataclass(frozen=True)
class PluginCredential:
    """What an exec plugin gave. lifetime_seconds: how long from now it may be used."""

    token: str = dataclasses.field(default="", repr=False)
    client_certificate: bytes | None = None
    client_key: bytes | None = dataclasses.field(default=None, repr=False)
    lifetime_seconds: float = float("inf")


def run_exec_plugin(plugin: ExecPlugin, config: ClusterConfig) -> PluginCredential:
    """Run the plugin and read what it prints. Raises MissingDependency or Unauthorized."""
    environment = {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": _exec_info(plugin, config)}
    try:
        done = subprocess.run(
            [plugin.command, *plugin.args],
            env=environment,
            stdin=None if plugin.interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_PLUGIN_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise missing_plugin(plugin) from None
    except PermissionError as error:
        raise Unauthorized(f"the exec plugin {plugin.command!r} may not be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Unauthorized(
            f"the exec plugin {plugin.command!r} gave no answer in {_PLUGIN_TIMEOUT_SECONDS:.0f} s"
        ) from None
    if done.returncode != 0:
        raise Unauthorized(
            f"the exec plugin {plugin.command!r} ended with exit code {done.returncode}",
            hint=plugin.install_hint,
        )
    return _read_credential(plugin, done.stdout)


def _exec_info(plugin: ExecPlugin, config: ClusterConfig) -> str:
    spec: dict[str, Any] = {"interactive": plugin.interactive}
    if plugin.provide_cluster_info:
        cluster: dict[str, Any] = {"server": config.server}
        if config.certificate_authority:
            cluster["certificate-authority-data"] = base64.b64encode(config.certificate_authority).decode()
        if config.tls_server_name:
            cluster["tls-server-name"] = config.tls_server_name
        if config.insecure_skip_tls_verify:
            cluster["insecure-skip-tls-verify"] = True
        spec["cluster"] = cluster
    return json.dumps({"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec})


def _read_credential(plugin: ExecPlugin, output: bytes) -> PluginCredential:
    # What the plugin printed stays out of every message: it may hold the token.
    refused = Unauthorized(
        f"the exec plugin {plugin.command!r} did not print an ExecCredential with a status"
    )
    try:
        document = json.loads(output)
        status = document["status"]
        version = document["apiVersion"]
        token = str(status.get("token") or "")
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        expiry = status.get("expirationTimestamp")
        lifetime = float("inf")
        if expiry:
            lifetime = max(0.0, parse_rfc3339(expiry) - time.time() - _EXPIRY_MARGIN_SECONDS)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise refused from None
    if version != plugin.api_version:
        raise Unauthorized(
            f"the exec plugin {plugin.command!r} answered in {version}, not {plugin.api_version}"
        )
    if not token and not (certificate and key):
        raise refused
    return PluginCredential(
        token, certificate.encode() if certificate else None, key.encode() if key else None, lifetime
    )
