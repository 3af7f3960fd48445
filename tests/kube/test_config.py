import base64
import datetime
import json
import os
import ssl
import stat

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kajitori.base.errors import (
    InvalidManifest,
    MissingDependency,
    Unauthorized,
    Unreachable,
    UnsupportedField,
    UsageError,
)
from kajitori.kube.client import Client
from kajitori.kube.config import ClusterConfig, contexts, in_cluster_config, load_config
from kajitori.kube.credentials import Credentials


def make_pair(name, issuer=None, *, authority=False):
    """(certificate, key, certificate PEM, key PEM)"""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("kubernetes")]), critical=False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate, key, pem, key_pem


def kubeconfig(server="https://127.0.0.1:6443", user=None, cluster=None, name="dev", current=True, **context):
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": name if current else "",
        "clusters": [{"name": name, "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **context}}],
    }  # fmt: skip


def write(path, document):
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    return home


def test_certificates_are_read_inline_and_from_files_beside_the_kubeconfig(tmp_path):
    (tmp_path / "client.key").write_bytes(b"KEY")
    user = {"client-certificate-data": base64.b64encode(b"CERT").decode(), "client-key": "client.key"}
    config = load_config(write(tmp_path / "config", kubeconfig(user=user, namespace="team")))
    assert (config.client_certificate, config.client_key) == (b"CERT", b"KEY")
    assert (config.server, config.namespace, config.context) == ("https://127.0.0.1:6443", "team", "dev")


def test_several_files_are_merged_and_the_first_to_say_something_wins(tmp_path, monkeypatch):
    one = write(tmp_path / "one", kubeconfig("https://one", {"token": "first"}, current=False))
    two = write(
        tmp_path / "two",
        {
            **kubeconfig("https://two", {"token": "second"}),
            "contexts": [
                {"name": "dev", "context": {"cluster": "dev", "user": "dev"}},
                {"name": "other", "context": {"cluster": "dev", "user": "nobody"}},
            ],
            "current-context": "other",
        },
    )
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([one, str(tmp_path / "missing"), two]))
    assert contexts() == (["dev", "other"], "other")
    assert load_config().server == "https://one"
    assert load_config(context="dev").token == "first"
    assert load_config(context="other").token == ""


def test_without_any_configuration_the_cure_is_named(elsewhere):
    with pytest.raises(UsageError, match="kaji up"):
        load_config()
    (elsewhere / ".kube").mkdir()
    write(elsewhere / ".kube" / "config", kubeconfig("https://home"))
    assert load_config().server == "https://home"


def test_an_unknown_context_lists_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"no context 'prod' \(contexts: dev\)"):
        load_config(write(tmp_path / "c", kubeconfig()), "prod")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: b: c", "line 1"),
        ("- 1", "expected a mapping"),
        ("clusters: [{cluster: {}}]", "clusters"),
        ("users: [{name: x, user: 5}]", "users"),
        ("\x00", "not YAML"),
    ],
)
def test_a_broken_file_says_where(tmp_path, text, says):
    (tmp_path / "c").write_text(text)
    with pytest.raises(InvalidManifest, match=says):
        load_config(str(tmp_path / "c"))


def test_broken_files_do_not_show_what_is_secret_in_them(tmp_path):
    (tmp_path / "c").write_text('users: [{name: x, user: {token: "s3cret}}]')
    with pytest.raises(InvalidManifest) as caught:
        load_config(str(tmp_path / "c"))
    assert "s3cret" not in str(caught.value) and caught.value.__cause__ is None
    user = {"token": "s3cret", "password": "s3cret", "client-key-data": base64.b64encode(b"s3cret").decode()}
    config = load_config(write(tmp_path / "d", kubeconfig(user=user)))
    assert "s3cret" not in repr(config)
    with pytest.raises(InvalidManifest, match="client-key-data"):
        load_config(write(tmp_path / "e", kubeconfig(user={"client-key-data": "s3cret!"})))


def test_auth_providers_are_refused_with_what_replaced_them(tmp_path):
    with pytest.raises(UnsupportedField, match="exec plugin"):
        load_config(write(tmp_path / "c", kubeconfig(user={"auth-provider": {"name": "gcp"}})))


def test_a_pod_finds_its_service_account(tmp_path, monkeypatch):
    for name, text in (("token", "tok\n"), ("namespace", "team"), ("ca.crt", "PEM")):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    config = in_cluster_config(tmp_path)
    assert (config.server, config.namespace) == ("https://[fd00::1]:6443", "team")
    config = ClusterConfig("http://x", token_file=str(tmp_path / "token"))
    credentials = Credentials(config)
    assert credentials.current().headers == (("Authorization", "Bearer tok"),)
    (tmp_path / "token").write_text("fresh")
    credentials.refused(credentials.current())
    assert credentials.current().headers == (("Authorization", "Bearer fresh"),)


def test_a_certificate_that_is_renewed_in_its_file_is_offered_from_then_on(tmp_path):
    def renew(name):
        _, _, certificate, key = make_pair(name)
        (tmp_path / "pair.pem").write_bytes(certificate + key)

    renew("first")
    user = {"client-certificate": "pair.pem", "client-key": "pair.pem"}
    config = load_config(write(tmp_path / "c", kubeconfig(user=user)))
    credentials = Credentials(config)
    first = credentials.current()
    credentials.refused(first)
    assert credentials.current().ssl_context is first.ssl_context
    renew("second")
    credentials.refused(credentials.current())
    second = credentials.current()
    assert second.ssl_context is not first.ssl_context
    (tmp_path / "pair.pem").unlink()
    credentials.refused(second)
    assert credentials.current().ssl_context is second.ssl_context


def test_impersonation_becomes_headers(tmp_path):
    user = {"token": "t", "as": "jane", "as-groups": ["a", "b"], "as-user-extra": {"Scope": ["x"]}}
    config = load_config(write(tmp_path / "c", kubeconfig(user=user)))
    assert Credentials(config).current().headers == (
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-scope", "x"),
        ("Authorization", "Bearer t"),
    )


def test_proxies_of_the_environment_are_not_used_for_loopback(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    assert ClusterConfig("https://cluster.example").proxy == "http://proxy:3128"
    assert ClusterConfig("https://internal.example").proxy == ""
    assert ClusterConfig("https://127.0.0.1:6443").proxy == ""
    assert ClusterConfig("https://localhost", proxy_url="http://mine").proxy == "http://mine"


def plugin(tmp_path, body):
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def exec_user(command="./plugin", **more):
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, **more}}


def credential(**status):
    return json.dumps(
        {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    )


def test_an_exec_plugin_is_run_once_until_its_token_expires_or_is_refused(tmp_path):
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).isoformat()
    plugin(
        tmp_path,
        'n=$(cat count 2>/dev/null || echo 0); echo $((n+1)) > count; echo "$KUBERNETES_EXEC_INFO" > info\n'
        f"echo '{credential(token='TOKEN', expirationTimestamp=soon)}' | sed s/TOKEN/$1-$WHO-$n/",
    )
    user = exec_user(args=["arg"], env=[{"name": "WHO", "value": "me"}], provideClusterInfo=True)
    config = load_config(write(tmp_path / "c", kubeconfig(user=user)))
    credentials = Credentials(config)
    old = os.getcwd()
    os.chdir(tmp_path)
    try:
        first = credentials.current()
        assert first.headers == (("Authorization", "Bearer arg-me-0"),)
        assert credentials.current() is first
        credentials.refused(first)
        assert credentials.current().headers == (("Authorization", "Bearer arg-me-1"),)
    finally:
        os.chdir(old)
    info = json.loads((tmp_path / "info").read_text())
    assert info["spec"]["cluster"]["server"] == "https://127.0.0.1:6443"


def test_an_expired_token_of_a_plugin_is_asked_for_again(tmp_path):
    plugin(
        tmp_path,
        f"echo x >> {tmp_path}/runs; echo '{credential(token='t', expirationTimestamp='2020-01-01T00:00:00Z')}'",
    )
    credentials = Credentials(load_config(write(tmp_path / "c", kubeconfig(user=exec_user()))))
    credentials.current()
    credentials.current()
    assert (tmp_path / "runs").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ("exit 3", Unauthorized, "exit code 3"),
        ("echo s3cret", Unauthorized, "did not print"),
        (f"echo '{credential()}'", Unauthorized, "did not print"),
        ("""echo '{"apiVersion":"client.authentication.k8s.io/v1beta1","status":{"token":"s3cret"}}'""", Unauthorized, "v1beta1"),
    ],
)  # fmt: skip
def test_a_plugin_that_fails_is_named_and_its_output_is_not_shown(tmp_path, body, error, says):
    plugin(tmp_path, body)
    credentials = Credentials(load_config(write(tmp_path / "c", kubeconfig(user=exec_user()))))
    with pytest.raises(error, match=says) as caught:
        credentials.current()
    assert "s3cret" not in str(caught.value)


def test_a_missing_plugin_says_how_to_install_it(tmp_path):
    user = exec_user("kaji-no-such-plugin", installHint="Install it\nwith care.")
    credentials = Credentials(load_config(write(tmp_path / "c", kubeconfig(user=user))))
    with pytest.raises(MissingDependency, match=r"kaji-no-such-plugin.*\(Install it with care.\)"):
        credentials.current()


async def test_client_certificates_and_the_servers_name_are_checked_over_tls(wire, tmp_path):
    authority = make_pair("ca", authority=True)
    server, client = make_pair("kubernetes", authority), make_pair("jane", authority)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority[2].decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as Go's servers do; on by default since Python 3.13
    pair = server[2] + server[3]
    path = tmp_path / "server.pem"
    path.write_bytes(pair)
    context.load_cert_chain(path)
    peers = []

    async def handler(request):
        peers.append(dict(x[0] for x in request.writer.get_extra_info("peercert")["subject"])["commonName"])
        await request.answer(200, b"{}")

    await wire.stop()
    wire.handler = handler
    await wire.start(ssl=context)
    good = ClusterConfig(
        wire.url, certificate_authority=authority[2], tls_server_name="kubernetes",
        client_certificate=client[2], client_key=client[3],
    )  # fmt: skip
    async with Client(good) as connection:
        await connection.request("GET", "/version")
        assert peers == ["jane"]
    stranger = make_pair("ca", authority=True)
    for bad in (
        ClusterConfig(wire.url, certificate_authority=stranger[2], tls_server_name="kubernetes"),
        ClusterConfig(wire.url, certificate_authority=authority[2]),
    ):
        async with Client(bad) as connection:
            with pytest.raises(Unreachable, match="not trusted"):
                await connection.request("GET", "/version")
    with pytest.raises(InvalidManifest, match="PEM"):
        ClusterConfig("https://x", certificate_authority=b"nonsense").ssl_context()
