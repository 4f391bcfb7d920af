"""What is wrong with certificate requests and certificates in PEM form, base64-encoded as the API has them.

Texts are those of Go's crypto/x509 and encoding/pem where they are simple. The cryptography library is loaded when
the first one is looked at.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

_BLOCK = re.compile(
    rb"^-----BEGIN ([^\n]*?)-----[ \t]*\r?\n(.*?)^-----END \1-----[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE
)
_BAD_SIGNATURE = {  # by the kind of key
    "RSA": "crypto/rsa: verification error",
    "ECPublicKey": "x509: ECDSA verification failure",
    "Ed25519": "x509: Ed25519 verification failure",
}
_REQUEST, _CERTIFICATE, _KEY = "CERTIFICATE REQUEST", "CERTIFICATE", "PRIVATE KEY"


def _blocks(data: bytes) -> Iterator[tuple[str, bool, bytes]]:
    """(label, has it headers, DER) of each well-formed block; what stands between them is skipped."""
    for match in _BLOCK.finditer(data):
        body = match.group(2)
        headers = b":" in body
        if headers:
            _, _, body = body.replace(b"\r\n", b"\n").partition(b"\n\n")
        try:
            der = base64.b64decode(b"".join(body.split()), validate=True)
        except binascii.Error:
            continue
        yield match.group(1).decode("utf-8", "replace"), headers, der


def request_fault(text: str) -> str:
    """What is wrong with a PKCS#10 request (base64 of PEM), "" where it is well-formed and signed by its own key."""
    label, _, der = next(_blocks(base64.b64decode(text)), ("", False, b""))
    if label != _REQUEST:
        return "PEM block type must be CERTIFICATE REQUEST"
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        request = x509.load_der_x509_csr(der)
        if request.is_signature_valid:
            return ""
        name = type(request.public_key()).__name__
        return next((text for kind, text in _BAD_SIGNATURE.items() if kind in name), "x509: cannot verify signature")
    except (ValueError, TypeError):
        return "asn1: structure error: tags don't match"
    except (InvalidSignature, UnsupportedAlgorithm):
        return "x509: cannot verify signature: algorithm unimplemented"


def certificates_fault(text: str) -> str:
    """What is wrong with a chain of certificates (base64 of PEM); an empty one is well."""
    if not text:
        return ""
    from cryptography import x509

    found = list(_blocks(base64.b64decode(text)))
    for label, headers, der in found:
        if label != _CERTIFICATE:
            return f'only CERTIFICATE PEM blocks are allowed, found "{label}"'
        if headers:
            return "no PEM block headers are permitted"
        if not der:
            return "found CERTIFICATE PEM block containing 0 certificates"
        try:
            x509.load_der_x509_certificate(der)
        except ValueError:
            return "x509: malformed certificate"
    return "" if found else "must contain at least one CERTIFICATE PEM block"


def key_pair_fault(certificate: str, key: str) -> str:
    """Why a certificate and a private key (base64 of PEM) do not go together; "" where they do.

    Source: golang crypto/tls, X509KeyPair (texts).
    """
    if isinstance(first := _first_block(certificate, "certificate"), str):
        return first
    if isinstance(second := _first_block(key, "key"), str):
        return second
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        public = x509.load_der_x509_certificate(first).public_key()
    except ValueError:
        return "x509: malformed certificate"
    try:
        private = serialization.load_der_private_key(second, None)
    except (ValueError, TypeError):
        return "tls: failed to parse private key"
    own = private.public_key()
    if type(own) is not type(public):
        return "tls: private key type does not match public key type"
    return "" if own == public else "tls: private key does not match public key"


def _first_block(text: str, kind: str) -> bytes | str:
    """DER of the first certificate or private key; a text where there is none."""
    skipped = []
    for label, _, der in _blocks(base64.b64decode(text)):
        if label == _CERTIFICATE if kind == "certificate" else label.endswith(_KEY):
            return der
        skipped.append(label)
    if not skipped:
        return f"tls: failed to find any PEM data in {kind} input"
    if kind == "certificate":
        if len(skipped) == 1 and skipped[0].endswith(_KEY):
            return (
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; "
                "PEM inputs may have been switched"
            )
        wanted = 'failed to find "CERTIFICATE" PEM block'
    elif skipped == [_CERTIFICATE]:
        return "tls: found a certificate rather than a key in the PEM for the private key"
    else:
        wanted = 'failed to find PEM block with type ending in "PRIVATE KEY"'
    return f"tls: {wanted} in {kind} input after skipping PEM blocks of the following types: [{' '.join(skipped)}]"
