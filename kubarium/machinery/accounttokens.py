"""What tokens of ServiceAccounts are made with: keys in PEM, and the claims of those that live in Secrets.

Source: kubernetes/pkg/serviceaccount (key ids, legacy claims).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubarium.machinery.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

PREFIX = "system:serviceaccount:"
SECRET_TYPE = "kubernetes.io/service-account-token"
LEGACY_ISSUER = "kubernetes/serviceaccount"
_CLAIM = "kubernetes.io/serviceaccount/"
NAMESPACE, SECRET = f"{_CLAIM}namespace", f"{_CLAIM}secret.name"
NAME, UID = f"{_CLAIM}service-account.name", f"{_CLAIM}service-account.uid"


@dataclass(frozen=True, slots=True)
class Key:
    """A key with the id and algorithm that go into a token's header."""

    key: Any
    key_id: str
    algorithm: str


def load_signer(path: str) -> Key:
    """A private key in PEM: EC P-256 or RSA. ConfigError otherwise."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private: PrivateKeyTypes = _load(path, lambda data: load_pem_private_key(data, None))
    return _key(path, private, private.public_key())


def load_verifiers(path: str) -> tuple[Key, ...]:
    """Every public or private key of a PEM file, as verifiers. ConfigError where there is none."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    def load(data: bytes) -> list[PublicKeyTypes]:
        blocks = [b"-----BEGIN" + block for block in data.split(b"-----BEGIN")[1:]]
        return [
            load_pem_private_key(block, None).public_key() if b"PRIVATE" in block[:40] else load_pem_public_key(block)
            for block in blocks
        ]

    keys = _load(path, load)
    if not keys:
        raise ConfigError(f"{path}: expected public keys in PEM, found none")
    return tuple(_key(path, key, key) for key in keys)


def _load(path: str, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(Path(path).read_bytes())
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}") from err
    except ValueError as err:
        raise ConfigError(f"{path}: expected a key in PEM, EC P-256 or RSA: {err}") from err


def _key(path: str, key: Any, public: Any) -> Key:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1":
        algorithm = "ES256"
    elif isinstance(public, rsa.RSAPublicKey):
        algorithm = "RS256"
    else:
        raise ConfigError(f"{path}: expected an EC P-256 or RSA key")
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    return Key(key, key_id, algorithm)


def sign(claims: Mapping[str, Any], key: Key) -> str:
    """A token with these claims."""
    import jwt

    return jwt.encode(dict(claims), key.key, algorithm=key.algorithm, headers={"kid": key.key_id})


def legacy_claims(namespace: str, account: str, uid: str, secret: str) -> dict[str, Any]:
    """What a token that lives in a Secret says: it has neither end nor audience."""
    return {
        "iss": LEGACY_ISSUER,
        NAMESPACE: namespace,
        SECRET: secret,
        NAME: account,
        UID: uid,
        "sub": f"{PREFIX}{namespace}:{account}",
    }
