"""Run a part of an installation, as its Deployments do: in any number of replicas, one of which writes.

kaji serve controllers                                  in a pod, as its service account
kaji serve gateway --kubeconfig FILE                    anywhere else
kaji serve accountant --control-plane HOST:PORT         beside an Envoy, in its pod; it asks nothing of the cluster

Leadership is a Lease; /healthz, /readyz and /metrics are served on --endpoint. SIGTERM ends what is in progress and
gives the Lease back.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kajitori.base.errors import UsageError
from kajitori.gateway.accounting.folders import ACCESS_LOG, LEDGER_FOLDER

if TYPE_CHECKING:
    from kajitori.gateway.fleet.front import Front


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("component", choices=("controllers", "gateway", "accountant"))
    parser.add_argument("--kubeconfig", help="path of the kubeconfig (default: the pod's service account)")
    parser.add_argument(
        "-n", "--namespace", help="of the installation (default: $POD_NAMESPACE or kajitori-system)"
    )
    parser.add_argument(
        "--endpoint", default="0.0.0.0:8080", metavar="HOST:PORT", help="of probes and metrics"
    )
    parser.add_argument(
        "--ignore-upstream",
        action="store_true",
        help="act though an upstream controller serves the same kinds",
    )
    parser.add_argument("--lease-seconds", type=float, default=15.0, help="a Lease not renewed is free after")
    parser.add_argument("--renew-deadline-seconds", type=float, default=10.0, help="a leader gives up after")
    parser.add_argument("--retry-seconds", type=float, default=2.0, help="between two attempts to renew")
    parser.add_argument(
        "--access-log",
        default=ACCESS_LOG,
        metavar="FILE",
        help="that an Envoy writes and its accountant reads",
    )
    _controllers_arguments(parser)
    _gateway_arguments(parser)
    _accountant_arguments(parser)


def _controllers_arguments(parser: argparse.ArgumentParser) -> None:
    controllers = parser.add_argument_group("controllers")
    controllers.add_argument(
        "--no-gang-gates",
        action="store_true",
        help="do not hold back pods of groups with devices until a whole group fits",
    )


def _gateway_arguments(parser: argparse.ArgumentParser) -> None:
    gateway = parser.add_argument_group("gateway")
    gateway.add_argument(
        "--discovery",
        default="0.0.0.0:18000",
        metavar="HOST:PORT",
        help="where Envoys connect, by mutual TLS",
    )
    gateway.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="of what is read out of Envoy's binary (default: ~/.cache/kajitori)",
    )
    gateway.add_argument(
        "--front",
        metavar="JSON",
        help="the Service in front of Envoy: name, selector, deployment, spec, annotations",
    )
    gateway.add_argument(
        "--secret-namespaces", metavar="A,B", help="read Secrets of these namespaces only (default: of all)"
    )


def _accountant_arguments(parser: argparse.ArgumentParser) -> None:
    accountant = parser.add_argument_group("accountant")
    accountant.add_argument(
        "--control-plane", metavar="HOST:PORT", help="where the policy comes from, by mutual TLS"
    )
    accountant.add_argument("--certificates", type=Path, metavar="DIR", help="of Envoy, with its key")
    accountant.add_argument(
        "--ledger",
        type=Path,
        default=Path(LEDGER_FOLDER),
        metavar="DIR",
        help="of the request records and the last policy",
    )
    accountant.add_argument(
        "--server-name", default="", help="in the control plane's certificate (default: the host)"
    )
    accountant.add_argument(
        "--sockets", type=Path, metavar="DIR", help="where Envoy's administration is and admission shall be"
    )


def run(options: argparse.Namespace) -> int:
    if options.component == "accountant":
        return _run_accountant(options)
    from kajitori.app.daemon import run_daemon
    from kajitori.app.serve import (
        ControllersOptions,
        GatewayOptions,
        own_namespace,
        serve_controllers,
        serve_gateway,
    )
    from kajitori.kube.lease import LeaseSettings

    try:
        lease = LeaseSettings(options.lease_seconds, options.renew_deadline_seconds, options.retry_seconds)
    except ValueError as error:
        raise UsageError(str(error)) from None
    namespace = options.namespace or own_namespace()
    common: dict[str, Any] = {
        "kubeconfig": options.kubeconfig,
        "namespace": namespace,
        "endpoint": options.endpoint,
        "yields": not options.ignore_upstream,
        "lease": lease,
    }
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if options.component == "controllers":
        run_daemon(serve_controllers(ControllersOptions(**common, gang_gates=not options.no_gang_gates)))
        return 0
    named: str | None = options.secret_namespaces
    run_daemon(
        serve_gateway(
            GatewayOptions(
                **common,
                discovery=options.discovery,
                cache=options.cache,
                access_log=options.access_log,
                front=_front(options.front, namespace),
                secret_namespaces=tuple(named.split(",")) if named is not None else None,
            )
        )
    )
    return 0


def _run_accountant(options: argparse.Namespace) -> int:
    from kajitori.app.daemon import run_daemon
    from kajitori.app.serve import AccountantOptions, serve_accountant

    if not options.control_plane:
        raise UsageError("an accountant needs --control-plane HOST:PORT")
    chosen: dict[str, Path] = {
        name: value
        for name in ("certificates", "ledger", "sockets")
        if (value := getattr(options, name)) is not None
    }
    run_daemon(
        serve_accountant(
            AccountantOptions(
                control_plane=options.control_plane,
                endpoint=options.endpoint,
                server_name=options.server_name,
                access_log=Path(options.access_log),
                **chosen,
            )
        )
    )
    return 0


def _front(text: str | None, namespace: str) -> Front | None:
    if text is None:
        return None
    import json

    import msgspec

    from kajitori.gateway.fleet.front import Front

    try:
        return msgspec.convert({"namespace": namespace, **json.loads(text)}, Front)
    except (ValueError, TypeError, msgspec.ValidationError) as error:
        raise UsageError(f"--front: {error}") from None
