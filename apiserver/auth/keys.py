"""The keys that ServiceAccount tokens are signed and checked with, and what is published of them.

Source: KEP-1393 (OIDC discovery of ServiceAccount tokens), RFC 7517.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubarium.machinery.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes


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


def jwks(keys: Sequence[Key]) -> dict[str, Any]:
    """The public keys as a JSON Web Key Set, for /openid/v1/jwks."""
    import json

    from jwt.algorithms import get_default_algorithms

    out = []
    for key in keys:
        numbers = json.loads(get_default_algorithms()[key.algorithm].to_jwk(key.key))
        numbers.pop("key_ops", None)
        out.append({"use": "sig", "alg": key.algorithm, "kid": key.key_id, **numbers})
    return {"keys": out}


def discovery(issuer: str, address: str, keys: Sequence[Key]) -> dict[str, Any]:
    """The OIDC document of an issuer whose keys this server, at `address` (HOST:PORT), publishes."""
    return {
        "issuer": issuer,
        "jwks_uri": f"https://{address}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted({key.algorithm for key in keys}),
    }
