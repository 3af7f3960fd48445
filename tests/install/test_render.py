"""What `kaji install` would apply, and the chart, from the same source."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tools.kubernetes.build import build, have_go

from kajitori.app.install.chart import chart_files
from kajitori.app.install.definitions import decide, is_newer
from kajitori.app.install.render import render, render_all
from kajitori.app.install.values import complete, defaults, read_choices, rows
from kajitori.base.errors import InvalidManifest, UsageError
from kajitori.gateway import rbac as gateway_rbac
from kajitori.groups.leader_worker_sets import rbac as groups_rbac

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "kajitori"
NAMESPACE = "kajitori-system"
Key = tuple[str, str | None, str]
CHOICES: list[dict[str, Any]] = [
    {},
    {"gateway": {"secretNamespaces": ["a", "b"], "className": ""}, "networkPolicies": {"enabled": False}},
    {
        "groups": {"enabled": False},
        "envoy": {
            "service": {"type": "NodePort", "annotations": {"a/b": "c"}},
            "accountant": {"env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"}]},
        },
    },
    {
        "gateway": {"enabled": False},
        "groups": {"yieldToUpstream": False, "placement": {"tolerations": [{"operator": "Exists"}]}},
        "image": {"repository": "registry.example/kajitori", "tag": "x@sha256:00"},
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClass": {"create": False, "name": ""},
    },
]


def by_key(objects: list[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    return {
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in objects
    }


def deployments(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in render(complete(values), NAMESPACE) if each["kind"] == "Deployment"]


@pytest.fixture(scope="module")
def helm() -> Path:
    if not have_go():
        pytest.skip("Go is absent: helm cannot be built")
    return build() / "helm"


def test_the_chart_in_the_repository_is_up_to_date() -> None:
    files = chart_files()
    there = {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()}
    assert there == set(files)
    stale = [name for name, text in files.items() if (CHART / name).read_text() != text]
    assert not stale, "run `make chart`"


@pytest.mark.parametrize("choices", CHOICES, ids=["defaults", "namespaces", "node-ports", "groups-only"])
def test_the_chart_gives_the_very_objects_that_the_installer_applies(
    helm: Path, choices: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(choices))
    done = subprocess.run(
        [helm, "template", "kajitori", CHART, "--namespace", NAMESPACE, "--include-crds", "--values", file],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    made = by_key([each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each])
    ours = by_key(render_all(complete(choices), NAMESPACE))
    # Helm makes the namespace itself, or not.
    del ours["Namespace", None, NAMESPACE]
    assert made.keys() == ours.keys()
    for key, obj in ours.items():
        assert made[key] == obj, key


def test_helm_refuses_values_that_are_none(helm: Path) -> None:
    for bad in ("envoy.replicas=0", "envoy.service.type=Magic", "nonsense=1"):
        done = subprocess.run(
            [helm, "template", "x", CHART, "--set", bad], capture_output=True, text=True, check=False
        )
        assert done.returncode, bad


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "groups": st.fixed_dictionaries({}, optional={"enabled": st.booleans(), "replicas": st.integers(1, 9)}),
            "gateway": st.fixed_dictionaries(
                {}, optional={"enabled": st.booleans(), "secretNamespaces": st.lists(st.sampled_from("abc"), unique=True)}
            ),
            "podDisruptionBudgets": st.fixed_dictionaries({"enabled": st.booleans()}),
        },
    )
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_whatever_is_chosen_every_reference_leads_somewhere(choices: dict[str, Any]) -> None:
    objects = by_key(render(complete(choices), NAMESPACE))
    for (kind, namespace, _), obj in objects.items():
        if kind == "Deployment":
            spec = obj["spec"]["template"]["spec"]
            assert ("ServiceAccount", NAMESPACE, spec["serviceAccountName"]) in objects
            assert ("PriorityClass", None, spec["priorityClassName"]) in objects
            for volume in spec["volumes"]:
                if "configMap" in volume:
                    assert ("ConfigMap", NAMESPACE, volume["configMap"]["name"]) in objects
        if kind in ("RoleBinding", "ClusterRoleBinding"):
            role = obj["roleRef"]
            assert (role["kind"], namespace, role["name"]) in objects
            assert all(("ServiceAccount", NAMESPACE, each["name"]) in objects for each in obj["subjects"])


def strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)
    else:
        yield str(node)


def test_no_secret_is_rendered_and_no_right_is_a_wildcard() -> None:
    for obj in render(complete({}), NAMESPACE):
        assert obj["kind"] != "Secret"
        assert "PRIVATE KEY" not in json.dumps(obj)
        for rule in obj.get("rules", ()):
            assert "*" not in strings(rule), obj["metadata"]["name"]


def test_each_component_has_exactly_the_rights_that_its_rooms_list() -> None:
    objects = by_key(render(complete({"gateway": {"secretNamespaces": ["models"]}}), NAMESPACE))
    controllers = objects["ClusterRole", None, "kajitori-controllers"]["rules"]
    assert controllers[: len(groups_rbac.RULES)] == groups_rbac.RULES
    gateway = objects["ClusterRole", None, "kajitori-gateway"]["rules"]
    assert gateway[: len(gateway_rbac.RULES)] == gateway_rbac.RULES
    assert not [rule for rule in (*controllers, *gateway) if "secrets" in rule["resources"]]
    assert objects["Role", "models", "kajitori-gateway-secrets"]["rules"] == gateway_rbac.SECRET_RULES
    assert ("ClusterRole", None, "kajitori-gateway-secrets") not in objects
    envoy = objects["ServiceAccount", NAMESPACE, "kajitori-envoy"]
    assert envoy["automountServiceAccountToken"] is False


def test_pods_are_locked_down_doubled_probed_and_bounded() -> None:
    for deployment in deployments({}):
        assert deployment["spec"]["replicas"] == 2
        spec = deployment["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert len(spec["topologySpreadConstraints"]) == 2
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert container["resources"]["requests"] and container["resources"]["limits"]["memory"]
        # A read-only root needs somewhere to write.
        assert {"mountPath": "/tmp", "name": "scratch"} in container["volumeMounts"]
        assert spec["terminationGracePeriodSeconds"] >= 30


def test_the_fleet_waits_for_its_certificate_and_outlasts_its_drain() -> None:
    envoy = next(
        each for each in deployments({"envoy": {"drainSeconds": 50}}) if "envoy" in each["metadata"]["name"]
    )
    spec = envoy["spec"]["template"]["spec"]
    secret = next(volume["secret"] for volume in spec["volumes"] if "secret" in volume)
    assert secret == {"secretName": "kajitori-envoy-client"}
    hook = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert hook == ["sleep", "50"] and spec["terminationGracePeriodSeconds"] > 50


def test_choices_from_files_and_the_command_line_are_laid_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("envoy:\n  replicas: 5\n  service:\n    annotations: {a: b}\n")
    chosen = read_choices([str(file)], ["envoy.replicas=7", "gateway.secretNamespaces=[x]"])
    values = complete(chosen)
    assert values["envoy"]["replicas"] == 7
    assert values["envoy"]["service"]["annotations"] == {"a": "b"}
    assert values["gateway"]["secretNamespaces"] == ["x"]
    assert values["envoy"]["service"]["type"] == defaults()["envoy"]["service"]["type"]


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"envoi": {}}, "unknown field `envoi`"),
        ({"envoy": {"replicas": "two"}}, "envoy.replicas"),
        ({"groups": {"replicas": 0}}, "groups.replicas"),
        ({"leaderElection": {"retrySeconds": 11}}, "retrySeconds < renewDeadlineSeconds < leaseSeconds"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(choices: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidManifest, match=told):
        complete(choices)


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a\.b=value"):
        read_choices([], ["envoy.replicas"])


def test_the_documentation_lists_every_value() -> None:
    text = (ROOT / "docs" / "reference" / "installation.md").read_text()
    for path, _, _, meaning in rows():
        assert f"`{path}`" in text
        assert meaning, f"{path} has no meaning"


def definition(name: str = "leaderworkersets.leaderworkerset.x-k8s.io") -> dict[str, Any]:
    return next(each for each in render_all(complete({}), NAMESPACE) if each["metadata"]["name"] == name)


def managed(body: dict[str, Any], *managers: str) -> dict[str, Any]:
    fields = [{"manager": manager, "fieldsV1": {"f:spec": {}}} for manager in managers]
    return {**body, "metadata": {**body["metadata"], "managedFields": fields}}


def test_a_definition_is_overwritten_only_if_it_is_ours_and_not_newer() -> None:
    ours = definition()
    assert decide(ours, None).action == "create"
    assert decide(ours, managed(ours, "kaji-install")).action == "update"
    assert decide(ours, managed(ours, "helm")).action == "update"
    shared = decide(ours, managed(ours, "kaji-install", "kubectl"))
    assert shared.action == "keep" and "kubectl" in shared.because
    foreign = managed({**ours, "metadata": {"name": ours["metadata"]["name"]}}, "kubectl-client-side-apply")
    assert decide(ours, foreign).action == "keep"
    newer = managed(ours, "kaji-install")
    newer["metadata"]["annotations"] = {"kajitori.dev/bundle-version": "99.0.0"}
    assert "newer Kajitori 99.0.0" in decide(ours, newer).because


def test_a_kept_definition_that_lacks_our_version_is_told() -> None:
    ours = definition("aigatewayroutes.aigateway.envoyproxy.io")
    old = managed({**ours, "metadata": {"name": ours["metadata"]["name"]}}, "helm")
    old["spec"] = {**ours["spec"], "versions": [{"name": "v1alpha1", "served": True, "storage": True}]}
    assert decide(ours, old).missing == ("v1beta1",)


@pytest.mark.parametrize(
    ("older", "newer"),
    [("0.1.0", "0.2.0"), ("0.9.9", "0.10.0"), ("1.0.0rc1", "1.0.0"), ("1.0.0rc1", "1.0.0rc2")],
)
def test_versions_are_in_order(older: str, newer: str) -> None:
    assert is_newer(newer, older) and not is_newer(older, newer) and not is_newer(older, older)


def test_a_header_that_may_hold_a_secret_is_refused_as_an_attribute() -> None:
    with pytest.raises(InvalidManifest, match="which may hold a secret"):
        complete({"gateway": {"requestHeaderAttributes": "authorization:user"}})
