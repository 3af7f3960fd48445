"""Rules of services, endpoints, endpoint slices, ingresses and network policies.

Endpoints may be loopback addresses here, which the published server refuses: pods of a laptop cluster live in
127.0.0.0/8.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from kajitori.laptop.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    required,
    too_many,
    unsupported_value,
)
from kajitori.laptop.apiserver.validation.containers import port_or_name_errors
from kajitori.laptop.apiserver.validation.metadata import immutable, label_errors, selector_errors
from kajitori.laptop.apiserver.validation.names import (
    dns_label,
    dns_subdomain,
    label_key,
    port_name,
    port_number,
)

Object = dict[str, Any]

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_ADDRESS_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_ENDPOINTS_LIMIT, _ADDRESSES_LIMIT, _PORTS_LIMIT = 1000, 100, 20000
_AFFINITY_SECONDS_LIMIT = 86400


def _address_errors(address: str, field: str) -> list[FieldError]:
    """An address that traffic can be sent to."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return [invalid_value(field, address, _ADDRESS_TEXT)]
    if parsed.is_unspecified:
        return [invalid_value(field, address, f"may not be unspecified ({address})")]
    if parsed.is_link_local:
        text = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        return [invalid_value(field, address, text)]
    return []


def _is_headless(spec: Object) -> bool:
    return spec.get("clusterIP") == "None" or "None" in (spec.get("clusterIPs") or ())


def _service_port_errors(ports: list[Object], kind: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    pairs: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        name, number, protocol = port.get("name"), port.get("port", 0), port.get("protocol", "TCP")
        if name:
            errors += [invalid_value(f"{here}.name", name, message) for message in dns_label(name)]
            if name in names:
                errors.append(duplicate(f"{here}.name", name))
            names.add(name)
        elif len(ports) > 1:
            errors.append(required(f"{here}.name"))
        errors += [invalid_value(f"{here}.port", number, message) for message in port_number(number)]
        if protocol not in _PROTOCOLS:
            errors.append(unsupported_value(f"{here}.protocol", protocol, _PROTOCOLS))
        errors += port_or_name_errors(port.get("targetPort", 0), f"{here}.targetPort")
        if port.get("appProtocol"):
            errors += [
                invalid_value(f"{here}.appProtocol", port["appProtocol"], message)
                for message in label_key(port["appProtocol"])
            ]
        node_port = port.get("nodePort")
        if node_port:
            if kind == "ClusterIP":
                text = "may not be used when `type` is 'ClusterIP'"
                errors.append(forbidden_field(f"{here}.nodePort", text))
            if (protocol, node_port) in node_ports:
                errors.append(duplicate(f"{here}.nodePort", node_port))
            node_ports.add((protocol, node_port))
        if (protocol, number) in pairs:
            errors.append(duplicate(here, {"protocol": protocol, "port": number}))
        pairs.add((protocol, number))
    return errors


def _external_name_errors(spec: Object) -> list[FieldError]:
    text = "may not be set for ExternalName services"
    errors = [
        forbidden_field(f"spec.{field}", text)
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(field)
    ]
    name = str(spec.get("externalName", "")).removesuffix(".")
    if not name:
        return [*errors, required("spec.externalName")]
    return errors + [invalid_value("spec.externalName", name, message) for message in dns_subdomain(name)]


def _cluster_address_errors(spec: Object, old: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    address, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if address and addresses and addresses[0] != address:
        text = "first value must match `clusterIP`"
        errors.append(invalid_value("spec.clusterIPs", addresses, text))
    if address and address != "None":
        try:
            ipaddress.ip_address(address)
        except ValueError:
            errors.append(invalid_value("spec.clusterIPs[0]", address, _ADDRESS_TEXT))
    if old is not None and "ExternalName" not in (old.get("type"), spec.get("type")):
        before = old.get("clusterIP")
        if before and address != before:
            text = "may not change once set"
            errors.append(invalid_value("spec.clusterIPs[0]", addresses or [address], text))
    return errors


def _affinity_errors(spec: Object) -> list[FieldError]:
    affinity = spec.get("sessionAffinity", "None")
    if affinity not in ("None", "ClientIP"):
        return [unsupported_value("spec.sessionAffinity", affinity, ("ClientIP", "None"))]
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if affinity == "ClientIP" and seconds is not None and not 0 < seconds <= _AFFINITY_SECONDS_LIMIT:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        text = f"must be greater than 0 and less than {_AFFINITY_SECONDS_LIMIT}"
        return [invalid_value(field, seconds, text)]
    return []


def service_errors(new: Object, old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return []
    spec: Object = new["spec"]
    kind = spec.get("type", "")
    errors: list[FieldError] = []
    if kind not in _SERVICE_TYPES:
        errors.append(unsupported_value("spec.type", kind, _SERVICE_TYPES))
    ports: list[Object] = spec.get("ports") or []
    if not ports and kind != "ExternalName" and not _is_headless(spec):
        errors.append(required("spec.ports"))
    if kind in ("LoadBalancer", "NodePort") and _is_headless(spec):
        text = f"may not be set to 'None' for {kind} services"
        errors.append(invalid_value("spec.clusterIPs[0]", "None", text))
    if kind == "ExternalName":
        errors += _external_name_errors(spec)
    else:
        errors += _cluster_address_errors(spec, old["spec"] if old else None)
    errors += _service_port_errors(ports, kind)
    errors += label_errors(spec.get("selector"), "spec.selector")
    errors += _affinity_errors(spec)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        errors += _address_errors(address, f"spec.externalIPs[{index}]")
    for field, supported in (
        ("externalTrafficPolicy", ("Cluster", "Local")),
        ("internalTrafficPolicy", ("Cluster", "Local")),
        ("ipFamilyPolicy", ("PreferDualStack", "RequireDualStack", "SingleStack")),
    ):
        value = spec.get(field)
        if value and value not in supported:
            errors.append(unsupported_value(f"spec.{field}", value, supported))
    if kind not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
        policy = spec.get("externalTrafficPolicy")
        if policy:
            text = "may only be set for externally-accessible services"
            errors.append(invalid_value("spec.externalTrafficPolicy", policy, text))
    if kind != "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not None:
        text = "may only be used when `type` is 'LoadBalancer'"
        errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", text))
    return errors


def endpoints_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, subset in enumerate(new.get("subsets") or ()):
        here = f"subsets[{index}]"
        ready, waiting = subset.get("addresses") or [], subset.get("notReadyAddresses") or []
        if not ready and not waiting:
            text = "must specify `addresses` or `notReadyAddresses`"
            errors.append(required(here, text))
        for name, addresses in (("addresses", ready), ("notReadyAddresses", waiting)):
            for place, address in enumerate(addresses):
                errors += _address_errors(address.get("ip", ""), f"{here}.{name}[{place}].ip")
        ports: list[Object] = subset.get("ports") or []
        for place, port in enumerate(ports):
            field = f"{here}.ports[{place}]"
            if len(ports) > 1 and not port.get("name"):
                errors.append(required(f"{field}.name"))
            number = port.get("port", 0)
            errors += [invalid_value(f"{field}.port", number, message) for message in port_number(number)]
            if port.get("protocol", "TCP") not in _PROTOCOLS:
                errors.append(unsupported_value(f"{field}.protocol", port["protocol"], _PROTOCOLS))
    return errors


def _slice_address_errors(address: str, kind: str, field: str) -> list[FieldError]:
    if kind == "FQDN":
        return [invalid_value(field, address, message) for message in dns_subdomain(address)]
    errors = _address_errors(address, field)
    if not errors:
        version = ipaddress.ip_address(address).version
        if f"IPv{version}" != kind:
            article = "an" if kind.startswith("IP") else "a"
            errors.append(invalid_value(field, address, f"must be {article} {kind} address"))
    return errors


def endpoint_slice_errors(new: Object, old: Object | None, _subresource: str) -> list[FieldError]:
    kind = new.get("addressType", "")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required("addressType"))
    elif kind not in ("FQDN", "IPv4", "IPv6"):
        errors.append(unsupported_value("addressType", kind, ("FQDN", "IPv4", "IPv6")))
    endpoints: list[Object] = new.get("endpoints") or []
    if len(endpoints) > _ENDPOINTS_LIMIT:
        errors.append(too_many("endpoints", len(endpoints), _ENDPOINTS_LIMIT))
    if old is None or endpoints != old.get("endpoints"):
        for index, endpoint in enumerate(endpoints):
            errors += _endpoint_errors(endpoint, kind, f"endpoints[{index}]")
    ports: list[Object] = new.get("ports") or []
    if len(ports) > _PORTS_LIMIT:
        errors.append(too_many("ports", len(ports), _PORTS_LIMIT))
    names: set[str] = set()
    for index, port in enumerate(ports):
        name = port.get("name", "")
        if name:
            errors += [invalid_value(f"ports[{index}].name", name, message) for message in dns_label(name)]
        if name in names:
            errors.append(duplicate(f"ports[{index}].name", name))
        names.add(name)
        if port.get("protocol", "TCP") not in _PROTOCOLS:
            errors.append(unsupported_value(f"ports[{index}].protocol", port["protocol"], _PROTOCOLS))
    if old is not None:
        errors += immutable(new, old, "", "addressType")
    return errors


def _endpoint_errors(endpoint: Object, kind: str, path: str) -> list[FieldError]:
    addresses: list[str] = endpoint.get("addresses") or []
    errors: list[FieldError] = []
    if not addresses:
        errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > _ADDRESSES_LIMIT:
        errors.append(too_many(f"{path}.addresses", len(addresses), _ADDRESSES_LIMIT))
    for index, address in enumerate(addresses):
        errors += _slice_address_errors(address, kind, f"{path}.addresses[{index}]")
    for field, form in (("nodeName", dns_subdomain), ("hostname", dns_label)):
        value = endpoint.get(field)
        if value:
            errors += [invalid_value(f"{path}.{field}", value, message) for message in form(value)]
    return errors


def _ingress_backend_errors(backend: Object, path: str) -> list[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        text = "cannot set both resource and service backends"
        return [invalid_value(path, "", text)]
    if resource is not None:
        return []
    if service is None:
        return [invalid_value(path, "", "resource or service backend is required")]
    errors: list[FieldError] = []
    if not service.get("name"):
        errors.append(required(f"{path}.service.name"))
    port: Object = service.get("port") or {}
    if not port.get("name") and not port.get("number"):
        errors.append(required(path, "port name or number is required"))
    elif port.get("name") and port.get("number"):
        errors.append(invalid_value(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        field = f"{path}.service.port.name"
        errors += [invalid_value(field, port["name"], message) for message in port_name(port["name"])]
    else:
        field = f"{path}.service.port.number"
        errors += [invalid_value(field, port["number"], message) for message in port_number(port["number"])]
    return errors


def _ingress_path_errors(rule: Object, path: str) -> list[FieldError]:
    kind = rule.get("pathType")
    if not kind:
        return [required(f"{path}.pathType", "pathType must be specified")]
    if kind not in ("Exact", "ImplementationSpecific", "Prefix"):
        supported = ("Exact", "ImplementationSpecific", "Prefix")
        return [unsupported_value(f"{path}.pathType", kind, supported)]
    place = rule.get("path", "")
    errors: list[FieldError] = []
    if (kind != "ImplementationSpecific" or place) and not place.startswith("/"):
        errors.append(invalid_value(f"{path}.path", place, "must be an absolute path"))
    return errors + _ingress_backend_errors(rule.get("backend") or {}, f"{path}.backend")


def ingress_errors(new: Object, _old: Object | None, subresource: str) -> list[FieldError]:
    if subresource == "status":
        return []
    spec: Object = new.get("spec") or {}
    rules: list[Object] = spec.get("rules") or []
    errors: list[FieldError] = []
    if not rules and spec.get("defaultBackend") is None:
        text = "either `defaultBackend` or `rules` must be specified"
        errors.append(invalid_value("spec", rules, text))
    if spec.get("defaultBackend") is not None:
        errors += _ingress_backend_errors(spec["defaultBackend"], "spec.defaultBackend")
    for index, rule in enumerate(rules):
        here = f"spec.rules[{index}]"
        host = str(rule.get("host", "")).removeprefix("*.")
        if host:
            errors += [
                invalid_value(f"{here}.host", rule["host"], message) for message in dns_subdomain(host)
            ]
        http = rule.get("http")
        if http is None:
            continue
        paths: list[Object] = http.get("paths") or []
        if not paths:
            errors.append(required(f"{here}.http.paths"))
        for place, path in enumerate(paths):
            errors += _ingress_path_errors(path, f"{here}.http.paths[{place}]")
    name = spec.get("ingressClassName")
    if name is not None:
        errors += [invalid_value("spec.ingressClassName", name, message) for message in dns_subdomain(name)]
    return errors


def _block_errors(text: str, path: str) -> list[FieldError]:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        form = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        return [invalid_value(path, text, form)]
    return []


def _peer_errors(peer: Object, path: str) -> list[FieldError]:
    block, selectors = peer.get("ipBlock"), [k for k in ("podSelector", "namespaceSelector") if k in peer]
    errors: list[FieldError] = []
    for name in selectors:
        errors += selector_errors(peer[name], f"{path}.{name}")
    if block is not None:
        if not block.get("cidr"):
            errors.append(required(f"{path}.ipBlock.cidr"))
        else:
            errors += _block_errors(block["cidr"], f"{path}.ipBlock.cidr")
        for index, part in enumerate(block.get("except") or ()):
            errors += _block_errors(part, f"{path}.ipBlock.except[{index}]")
        if selectors:
            errors.append(forbidden_field(path, "may not specify both ipBlock and another peer"))
    elif not selectors:
        errors.append(required(path, "must specify a peer"))
    return errors


def network_policy_errors(new: Object, _old: Object | None, _subresource: str) -> list[FieldError]:
    spec: Object = new["spec"]
    errors = selector_errors(spec.get("podSelector"), "spec.podSelector")
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            here = f"spec.{direction}[{index}]"
            for place, port in enumerate(rule.get("ports") or ()):
                protocol = port.get("protocol", "TCP")
                if protocol not in ("TCP", "UDP", "SCTP"):
                    at = f"{here}.ports[{place}].protocol"
                    errors.append(unsupported_value(at, protocol, ("TCP", "UDP", "SCTP")))
                if "port" in port:
                    errors += port_or_name_errors(port["port"], f"{here}.ports[{place}].port")
            for place, peer in enumerate(rule.get(side) or ()):
                errors += _peer_errors(peer, f"{here}.{side}[{place}]")
    for index, kind in enumerate(spec.get("policyTypes") or ()):
        if kind not in ("Ingress", "Egress"):
            errors.append(unsupported_value(f"spec.policyTypes[{index}]", kind, ("Ingress", "Egress")))
    return errors
