"""Certificates that TLS stacks accept, kubeconfigs that read back."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kubarium.machinery import kubeconfig, pki
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.kubeconfig import ClientConfig


def test_ca_and_keys_are_made_once_and_kept_secret(tmp_path: Path) -> None:
    first, again = pki.make_ca(tmp_path), pki.make_ca(tmp_path)
    assert first.certificate == again.certificate
    private, public = pki.service_account_key(tmp_path)
    before = private.read_bytes(), public.read_bytes()
    assert (pki.service_account_key(tmp_path)[0].read_bytes(), public.read_bytes()) == before
    for name in ("ca.key", "sa.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_mutual_tls_by_address(tmp_path: Path) -> None:
    ca = pki.make_ca(tmp_path)
    pki.issue(ca, "server", ips=["127.0.0.1"], dns_names=["kubernetes"], usages=["server"]).write(tmp_path, "server")
    pki.issue(ca, "admin", ["system:masters", "others"]).write(tmp_path, "admin")
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.crt"))
    server_tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server_tls.verify_mode = ssl.CERT_REQUIRED
    client_tls = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    client_tls.load_cert_chain(tmp_path / "admin.crt", tmp_path / "admin.key")
    seen: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as raw, server_tls.wrap_socket(raw, server_side=True) as connection:
            seen.append(connection.getpeercert(binary_form=True) or b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with (
            socket.create_connection(listener.getsockname()) as raw,
            client_tls.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
        ):
            connection.recv(1)
        thread.join()
    subject = x509.load_der_x509_certificate(seen[0]).subject
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["admin"]
    groups = {name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
    assert groups == {"system:masters", "others"}


def test_a_ca_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("ca.crt", "ca.key"):
        (tmp_path / name).write_text("rubbish")
    with pytest.raises(ConfigError, match=r"ca\.crt"):
        pki.make_ca(tmp_path)


def test_kubeconfig_reads_back_and_is_json(tmp_path: Path) -> None:
    config = ClientConfig(
        "https://198.18.0.10:6443", b"CA", b"CERT", b"KEY", "token", grpc="198.18.0.10:6444", namespace="n", cluster="c"
    )
    path = tmp_path / "admin.conf"
    kubeconfig.write(path, config, user="admin")
    assert kubeconfig.read(path) == config
    assert json.loads(path.read_text())["current-context"] == "c"
    assert path.stat().st_mode & 0o777 == 0o600


def test_kubeconfig_of_others_is_yaml_with_files_and_several_contexts(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"CA")
    path = tmp_path / "config"
    path.write_text(
        """
apiVersion: v1
kind: Config
current-context: one
contexts:
  - {name: one, context: {cluster: a, user: u}}
  - {name: two, context: {cluster: a, namespace: x}}
clusters: [{name: a, cluster: {server: "https://a:1/", certificate-authority: ca.pem}}]
users: [{name: u, user: {tokenFile: token}}]
"""
    )
    one = kubeconfig.read(path)
    assert (one.server, one.ca, one.token_file) == ("https://a:1", b"CA", str(tmp_path / "token"))
    assert kubeconfig.read(path, context="two").namespace == "x"
    with pytest.raises(ConfigError, match="no entry 'three' under contexts"):
        kubeconfig.read(path, context="three")
    with pytest.raises(ConfigError, match="No such file"):
        kubeconfig.read(tmp_path / "none")


def test_outside_a_pod_there_is_no_in_cluster_configuration() -> None:
    with pytest.raises(ConfigError, match="use --kubeconfig"):
        kubeconfig.in_cluster({})
