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
_REQUEST, _CERTIFICATE = "CERTIFICATE REQUEST", "CERTIFICATE"


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
