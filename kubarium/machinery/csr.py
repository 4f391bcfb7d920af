"""What a certificate signing request asks for, and what the signers of Kubernetes accept.

Source: Kubernetes documentation, "Certificate Signing Requests"; kubernetes/pkg/apis/certificates (helpers, texts).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

API_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
NODES_GROUP, NODE_PREFIX = "system:nodes", "system:node:"
SIGNATURE, ENCIPHERMENT, CLIENT, SERVER = "digital signature", "key encipherment", "client auth", "server auth"


@dataclass(frozen=True, slots=True)
class Requested:
    """The parts of a request that are judged; `parsed` is all of it."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]
    parsed: x509.CertificateSigningRequest


def parse(pem: bytes) -> Requested:
    """Raises ValueError."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    text = pem[max(pem.find(b"-----BEGIN "), 0) :]
    if not text.startswith(b"-----BEGIN CERTIFICATE REQUEST-----"):
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    parsed = x509.load_pem_x509_csr(text)
    named = parsed.subject.get_attributes_for_oid
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    common = [str(attribute.value) for attribute in named(NameOID.COMMON_NAME)]
    return Requested(
        common[-1] if common else "",
        tuple(str(attribute.value) for attribute in named(NameOID.ORGANIZATION_NAME)),
        tuple(names.get_values_for_type(x509.DNSName)),
        tuple(map(str, names.get_values_for_type(x509.IPAddress))),
        tuple(names.get_values_for_type(x509.RFC822Name)),
        tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        parsed,
    )


def client_faults(usages: Collection[str]) -> str:
    """Why kube-apiserver-client does not sign for such usages, "" where it does."""
    for usage in usages:
        if usage not in (SIGNATURE, ENCIPHERMENT, CLIENT):
            return f"invalid usage for client certificate: {usage}"
    return "" if CLIENT in usages else f"missing required usage for client certificate: {CLIENT}"


def kubelet_client_faults(asked: Requested, usages: Collection[str]) -> str:
    """The same of kube-apiserver-client-kubelet."""
    if asked.organizations != (NODES_GROUP,):
        return "subject organization is not system:nodes"
    for values, kind in (
        (asked.dns_names, "DNS"),
        (asked.emails, "Email"),
        (asked.addresses, "IP"),
        (asked.uris, "URI"),
    ):
        if values:
            return f"{kind} subjectAltNames are not allowed"
    if not asked.common_name.startswith(NODE_PREFIX):
        return "subject common name does not begin with system:node:"
    return _usage_faults(usages, CLIENT)


def kubelet_serving_faults(asked: Requested, usages: Collection[str]) -> str:
    """The same of kubelet-serving."""
    if asked.organizations != (NODES_GROUP,):
        return "subject organization is not system:nodes"
    if not asked.dns_names and not asked.addresses:
        return "DNS or IP subjectAltName is required"
    for values, kind in ((asked.emails, "Email"), (asked.uris, "URI")):
        if values:
            return f"{kind} subjectAltNames are not allowed"
    if found := _usage_faults(usages, SERVER):
        return found
    return "" if asked.common_name.startswith(NODE_PREFIX) else "subject common name does not begin with system:node:"


def _usage_faults(usages: Collection[str], purpose: str) -> str:
    needed = {SIGNATURE, ENCIPHERMENT, purpose}
    if set(usages) in (needed, needed - {ENCIPHERMENT}):
        return ""
    return f"usages did not match [{' '.join(sorted(needed))}]"
