"""A cluster's own certificate authority, the certificates it issues and the key that signs ServiceAccount tokens.

All keys are EC P-256. A certificate's common name is the user, its organizations are the groups.
Source: https://kubernetes.io/docs/setup/best-practices/certificates/, RFC 5280.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubarium.machinery.errors import ConfigError

VALID = datetime.timedelta(days=3650)
SKEW = datetime.timedelta(hours=1)  # certificates work also where another machine's clock is a little behind
BACKDATE = datetime.timedelta(minutes=5)
SHORT = datetime.timedelta(hours=8)  # certificates that live no longer have all of their time still before them
PURPOSES = {
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


class CertKey(NamedTuple):
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> None:
        """FOLDER/NAME.crt, and NAME.key for the owner's eyes only."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{name}.key", self.key, 0o600)
        _write(folder / f"{name}.crt", self.certificate, 0o644)


class Ca(NamedTuple):
    """An authority that issues: parsed for signing, and its certificate as PEM for everybody else."""

    certificate: bytes
    parsed: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey


def make_ca(folder: Path, *, name: str = "kubarium") -> Ca:
    """The authority in FOLDER/ca.crt and ca.key, made if it is not there. Raises ConfigError for unreadable files."""
    crt, key = folder / "ca.crt", folder / "ca.key"
    if not (crt.exists() and key.exists()):
        _new_ca(name).write(folder, "ca")
    return load_ca(crt, key)


def load_ca(crt: Path, key: Path) -> Ca:
    """Read an authority from its two PEM files."""
    try:
        certificate = crt.read_bytes()
        parsed = x509.load_pem_x509_certificate(certificate)
        private_key = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError) as err:
        raise ConfigError(f"certificate authority {crt}, {key}: {err}") from err
    if not isinstance(private_key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"certificate authority key {key}: expected an EC key")
    return Ca(certificate, parsed, private_key)


def _new_ca(name: str) -> CertKey:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return CertKey(_pem(builder.sign(key, hashes.SHA256())), private_pem(key))


def issue(
    ca: Ca,
    cn: str,
    organizations: Iterable[str] = (),
    dns_names: Iterable[str] = (),
    ips: Iterable[str] = (),
    usages: Iterable[str] = ("client",),
) -> CertKey:
    """A new key and its certificate. `usages`: "server", "client" or both; servers name their addresses in `ips`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
        + [x509.NameAttribute(NameOID.COMMON_NAME, cn)]
    )
    builder = (
        _builder(subject, ca.parsed.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([USAGES[usage] for usage in usages]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.private_key.public_key()), critical=False)
    )
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys(dns_names)]
    names += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in dict.fromkeys(ips)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return CertKey(_pem(builder.sign(ca.private_key, hashes.SHA256())), private_pem(key))


def sign_request(
    ca: Ca,
    asked: x509.CertificateSigningRequest,
    usages: Iterable[str],
    now: datetime.datetime,
    lifetime: datetime.timedelta,
) -> bytes:
    """The certificate, PEM, for a signing request of the Kubernetes API; `usages` as that names them.

    It begins a little earlier, for clocks that differ, and ends with the authority at the latest.
    Source: kubernetes/pkg/controller/certificates/authority.
    """
    wanted = set(usages)
    begins = now - BACKDATE
    ends = (now if lifetime < SHORT else begins) + lifetime
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(ca.parsed.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(begins, ca.parsed.not_valid_before_utc))
        .not_valid_after(min(ends, ca.parsed.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.private_key.public_key()), critical=False)
    )
    if wanted - PURPOSES.keys():
        builder = builder.add_extension(_requested_usage(wanted), critical=True)
    if purposes := [PURPOSES[usage] for usage in PURPOSES if usage in wanted]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    for extension in asked.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            builder = builder.add_extension(extension.value, critical=False)
    return _pem(builder.sign(ca.private_key, hashes.SHA256()))


def _requested_usage(usages: set[str]) -> x509.KeyUsage:
    agreement = "key agreement" in usages
    return x509.KeyUsage(
        digital_signature=bool(usages & {"digital signature", "signing"}),
        content_commitment="content commitment" in usages,
        key_encipherment="key encipherment" in usages,
        data_encipherment="data encipherment" in usages,
        key_agreement=agreement,
        key_cert_sign="cert sign" in usages,
        crl_sign="crl sign" in usages,
        encipher_only=agreement and "encipher only" in usages,
        decipher_only=agreement and "decipher only" in usages,
    )


def service_account_key(folder: Path) -> tuple[Path, Path]:
    """FOLDER/sa.key (signs tokens, ES256) and sa.pub (checks them), made if they are not there."""
    private, public = folder / "sa.key", folder / "sa.pub"
    if not (private.exists() and public.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        _write(private, private_pem(key), 0o600)
        _write(public, public_pem(key.public_key()), 0o644)
    return private, public


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + VALID)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes, mode: int) -> None:
    """In one step, so that no reader sees half a key."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    fresh.replace(path)
