"""CertificateSigningRequests, token Secrets, aggregated ClusterRoles: the plans, and the controllers at work."""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubarium.controllers.accounttokens import belongs_to, plan_data
from kubarium.controllers.bootstraptokens import seconds_left
from kubarium.controllers.certificates import plan_fault, plan_lifetime, plan_reviews
from kubarium.controllers.certificateviews import (
    APPROVED,
    DENIED,
    FAILED,
    REQUESTS,
    Condition,
    RequestSpec,
    RequestStatus,
    SigningRequest,
    is_over,
)
from kubarium.controllers.clusterroles import CLUSTERROLES, AggregationRule, ClusterRole, plan_rules
from kubarium.controllers.config import Config
from kubarium.machinery import csr, pki
from kubarium.machinery.accounttokens import load_signer
from kubarium.machinery.objects import LabelSelector, ObjectMeta, Secret, ServiceAccount
from kubarium.machinery.resources import NAMESPACES, SECRETS, SERVICEACCOUNTS
from kubarium.machinery.times import format_timestamp
from kubarium.testing.apiserver import ApiServer, api_server
from tests.controllers.live import eventually, running

NODE = "/O=system:nodes/CN=system:node:n1"
CLIENT, SERVER = ("client auth", "digital signature"), ("server auth", "digital signature", "key encipherment")


def requested(subject: str, *names: x509.GeneralName) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """PEM of a request for `/O=.../CN=...`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    oids = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
    pairs = [part.split("=", 1) for part in subject.strip("/").split("/")]
    attributes = [x509.NameAttribute(oids[kind], value) for kind, value in pairs]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), key


def request(pem: bytes, signer: str, usages: tuple[str, ...], **spec: Any) -> SigningRequest:
    encoded = base64.b64encode(pem).decode()
    return SigningRequest(spec=RequestSpec(request=encoded, signer_name=signer, usages=usages, **spec))


DNS, MAIL = x509.DNSName("n1"), x509.RFC822Name("a@b.c")


@pytest.mark.parametrize(
    ("subject", "names", "signer", "usages", "fault"),
    [
        pytest.param("/CN=kim/O=dev", (), csr.API_CLIENT, ("client auth",), "", id="a client"),
        pytest.param(
            "/CN=kim",
            (),
            csr.API_CLIENT,
            ("server auth",),
            "invalid usage for client certificate: server auth",
            id="a client that would serve",
        ),
        pytest.param(
            "/CN=kim",
            (),
            csr.API_CLIENT,
            ("digital signature",),
            "missing required usage for client certificate: client auth",
            id="a client that would not be one",
        ),
        pytest.param(NODE, (), csr.KUBELET_CLIENT, CLIENT, "", id="a kubelet"),
        pytest.param(
            "/O=dev/CN=system:node:n1",
            (),
            csr.KUBELET_CLIENT,
            CLIENT,
            "subject organization is not system:nodes",
            id="a kubelet of another group",
        ),
        pytest.param(
            NODE, (DNS,), csr.KUBELET_CLIENT, CLIENT, "DNS subjectAltNames are not allowed", id="a kubelet with names"
        ),
        pytest.param(
            NODE,
            (),
            csr.KUBELET_CLIENT,
            (*CLIENT, "server auth"),
            "usages did not match [client auth digital signature key encipherment]",
            id="a kubelet that would serve with it",
        ),
        pytest.param(
            "/O=system:nodes/CN=n1",
            (),
            csr.KUBELET_CLIENT,
            CLIENT,
            "subject common name does not begin with system:node:",
            id="a kubelet of another name",
        ),
        pytest.param(NODE, (DNS,), csr.KUBELET_SERVING, SERVER, "", id="a kubelet's server"),
        pytest.param(
            NODE, (), csr.KUBELET_SERVING, SERVER, "DNS or IP subjectAltName is required", id="a server without a name"
        ),
        pytest.param(
            NODE,
            (DNS, MAIL),
            csr.KUBELET_SERVING,
            SERVER,
            "Email subjectAltNames are not allowed",
            id="a server with a mailbox",
        ),
        pytest.param(NODE, (), csr.LEGACY, CLIENT, None, id="nobody signs for legacy-unknown"),
        pytest.param(NODE, (), "example.com/mine", CLIENT, None, id="nor for others' signers"),
    ],
)
def test_what_a_signer_signs(
    subject: str, names: tuple[x509.GeneralName, ...], signer: str, usages: tuple[str, ...], fault: str | None
) -> None:
    pem, _ = requested(subject, *names)
    assert plan_fault(request(pem, signer, usages), csr.parse(pem)) == fault


@pytest.mark.parametrize(
    ("author", "signer", "tried"),
    [
        ("system:node:n1", csr.KUBELET_CLIENT, ["selfnodeclient", "nodeclient"]),
        ("system:bootstrap:abcdef", csr.KUBELET_CLIENT, ["nodeclient"]),
        ("system:node:n1", csr.API_CLIENT, []),
    ],
)
def test_what_is_approved_unasked(author: str, signer: str, tried: list[str]) -> None:
    pem, _ = requested(NODE)
    found = plan_reviews(request(pem, signer, CLIENT, username=author), csr.parse(pem))
    assert [subresource for subresource, _ in found] == tried


@pytest.mark.parametrize(("asked", "given"), [(None, 1000), (60, 600), (700, 700), (5000, 1000)])
def test_how_long_a_certificate_lives(asked: int | None, given: int) -> None:
    assert plan_lifetime(asked, 1000) == timedelta(seconds=given)


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("kind", "minutes", "certificate", "over"),
    [
        pytest.param("", 23 * 60, "", False, id="pending for less than a day"),
        pytest.param("", 25 * 60, "", True, id="pending for more"),
        pytest.param(DENIED, 59, "", False, id="just denied"),
        pytest.param(DENIED, 61, "", True, id="denied an hour ago"),
        pytest.param(FAILED, 61, "", True, id="failed an hour ago"),
        pytest.param(APPROVED, 61, "", False, id="approved, and waiting for its signer"),
        pytest.param(APPROVED, 61, "eA==", True, id="issued an hour ago"),
        pytest.param(APPROVED, 59, "eA==", False, id="just issued"),
    ],
)
def test_when_a_request_is_over(kind: str, minutes: int, certificate: str, over: bool) -> None:
    then = format_timestamp(NOW - minutes * 60)
    conditions = (Condition(type=kind, status="True", last_update_time=then),) if kind else ()
    status = RequestStatus(conditions=conditions, certificate=certificate)
    assert is_over(SigningRequest(metadata=ObjectMeta(creation_timestamp=then), status=status), NOW) is over


def test_a_certificate_ends_with_its_authority(tmp_path: Path) -> None:
    ca = pki.make_ca(tmp_path)
    pem, _ = requested("/CN=kim/O=dev", DNS)
    now = datetime.now(UTC)
    asked = csr.parse(pem).parsed
    made = x509.load_pem_x509_certificate(pki.sign_request(ca, asked, ["client auth"], now, timedelta(days=10**4)))
    assert made.not_valid_after_utc == ca.parsed.not_valid_after_utc
    assert made.subject == asked.subject
    made.verify_directly_issued_by(ca.parsed)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]
    short = x509.load_pem_x509_certificate(pki.sign_request(ca, asked, ["client auth"], now, timedelta(hours=1)))
    assert short.not_valid_after_utc - now.replace(microsecond=0) == timedelta(hours=1)


def test_an_aggregating_role_has_each_rule_of_the_others_once() -> None:
    def role(name: str, *rules: str, **labels: str) -> ClusterRole:
        metadata = ObjectMeta(name=name, labels=labels)
        return ClusterRole(metadata=metadata, rules=tuple({"resources": [one]} for one in rules))

    selector = LabelSelector(match_labels={"to": "all"})
    whole = ClusterRole(
        metadata=ObjectMeta(name="whole", labels={"to": "all"}),
        aggregation_rule=AggregationRule(cluster_role_selectors=(selector, selector)),
    )
    roles = [role("b", "pods", "nodes", to="all"), role("a", "pods", to="all"), role("c", "secrets"), whole]
    assert plan_rules(whole, roles) == [{"resources": ["pods"]}, {"resources": ["nodes"]}]


def test_a_secret_gets_what_it_lacks(tmp_path: Path) -> None:
    key = load_signer(str(pki.service_account_key(tmp_path)[0]))
    account = ServiceAccount(metadata=ObjectMeta(name="bot", namespace="shop", uid="u1"))
    empty = Secret(metadata=ObjectMeta(name="s", namespace="shop"))
    found = plan_data(empty, account, b"CA", key)
    assert sorted(found) == ["ca.crt", "namespace", "token"]
    full = Secret(metadata=empty.metadata, data=found)
    assert plan_data(full, account, b"CA", key) == {}
    assert list(plan_data(full, account, b"another", key)) == ["ca.crt"]
    other = ObjectMeta(annotations={"kubernetes.io/service-account.uid": "u0"})
    assert belongs_to(empty, account)
    assert not belongs_to(Secret(metadata=other), account)
    assert not belongs_to(empty, None)


@pytest.mark.parametrize(
    ("text", "left"), [("", None), ("2027-01-15T08:00:10Z", 10.0), ("2027-01-15T07:00:00Z", -3600.0), ("soon", 0.0)]
)
def test_how_long_a_bootstrap_token_has_left(text: str, left: float | None) -> None:
    data = {"expiration": base64.b64encode(text.encode()).decode()} if text else {}
    assert seconds_left(Secret(data=data), NOW) == left


async def test_certificates_and_tokens_on_a_running_server(tmp_path: Path) -> None:
    ca, signing = pki.make_ca(tmp_path), pki.service_account_key(tmp_path)
    files = {"root_ca_file": "ca.crt", "cluster_signing_cert_file": "ca.crt", "cluster_signing_key_file": "ca.key"}
    config = Config(
        service_account_private_key_file=str(signing[0]), **{name: str(tmp_path / file) for name, file in files.items()}
    )
    flags = ("--client-ca-file", str(tmp_path / "ca.crt"), "--service-account-key-file", str(signing[1]))
    with api_server(tmp_path / "api", *flags) as server:
        async with running(server.kubeconfig, config) as api:
            pem, key = requested("/O=dev/CN=kim")
            spec = {"request": base64.b64encode(pem).decode(), "signerName": csr.API_CLIENT, "usages": ["client auth"]}
            await api.create(REQUESTS, {"metadata": {"name": "kim"}, "spec": spec})
            obj = await api.get_raw(REQUESTS, "kim")
            obj["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "me"}]}
            await api.update(REQUESTS, obj, subresource="approval")

            async def issued() -> str:
                return (await api.get(REQUESTS, "kim")).status.certificate

            certificate = base64.b64decode(await eventually(issued))
            user = whoami(server, tmp_path, certificate, key)
            assert (user["username"], user["groups"]) == ("kim", ["dev", AUTHENTICATED])

            await api.create(NAMESPACES, {"metadata": {"name": "shop"}})
            await api.create(SERVICEACCOUNTS, {"metadata": {"name": "bot"}}, "shop")
            annotations = {"kubernetes.io/service-account.name": "bot"}
            body = {
                "metadata": {"name": "s", "annotations": annotations},
                "type": "kubernetes.io/service-account-token",
            }
            await api.create(SECRETS, body, "shop")

            async def token() -> str:
                return (await api.get(SECRETS, "s", "shop")).data.get("token", "")

            text = base64.b64decode(await eventually(token)).decode()
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            review = server.post(path, {}, token=text).body
            assert review["status"]["userInfo"]["username"] == "system:serviceaccount:shop:bot"
            await api.delete(SERVICEACCOUNTS, "bot", "shop")

            async def gone() -> bool:
                return not (await api.list(SECRETS, "shop")).items

            await eventually(gone)
            assert server.post(path, {}, token=text).status == 401

            async def filled() -> bool:
                return bool((await api.get(CLUSTERROLES, "view")).rules)

            await eventually(filled)

            data = {"expiration": format_timestamp(time.time() + 1)}
            over = {"metadata": {"name": "bootstrap-token-abcdef"}, "type": BOOTSTRAP, "stringData": data}
            await api.create(SECRETS, over, "kube-system")

            async def cleaned() -> bool:
                return not (await api.list(SECRETS, "kube-system", field_selector=f"type={BOOTSTRAP}")).items

            await eventually(cleaned)
    assert ca.certificate


AUTHENTICATED, BOOTSTRAP = "system:authenticated", "bootstrap.kubernetes.io/token"


def whoami(server: ApiServer, folder: Path, certificate: bytes, key: ec.EllipticCurvePrivateKey) -> Any:
    """The user that a server sees behind a client certificate."""
    (folder / "kim.crt").write_bytes(certificate)
    (folder / "kim.key").write_bytes(pki.private_pem(key))
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.load_cert_chain(folder / "kim.crt", folder / "kim.key")
    url = f"{server.url}/apis/authentication.k8s.io/v1/selfsubjectreviews"
    call = urllib.request.Request(url, b"{}", headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(call, context=tls, timeout=10) as answer:
        return json.loads(answer.read())["status"]["userInfo"]
