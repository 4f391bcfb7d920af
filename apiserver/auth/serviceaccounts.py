"""Bound tokens of ServiceAccounts: issued by the `token` subresource, checked on every request.

A token is good while its signature, times, issuer and audience are, and while the ServiceAccount (and the Pod or
Secret it is bound to) exists with the uid it was issued for. Source: KEP-1205 (bound service account tokens).
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apiserver.request import AUTHENTICATED_GROUP, User
from kubarium.machinery.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

PREFIX = "system:serviceaccount:"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
LEEWAY_S = 60
CACHE_SIZE = 4096

UidOf = Callable[[str, str, str], str | None]
"""(plural, namespace, name) -> the object's uid, None where there is none."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The object that a token lives and dies with; `kind` is Pod, Secret or Node."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class TokenSubject:
    namespace: str
    name: str
    uid: str
    binding: Binding | None = None
    node: Binding | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key with the id and algorithm that go into a token's header."""

    key: Any
    key_id: str
    algorithm: str


class InvalidToken(Exception):
    """The token is one of ours by its form, and not good (any more)."""


@dataclass
class ServiceAccountTokens:
    """Issuer and verifier. `signer` None: this server issues no tokens."""

    issuer: str
    audiences: tuple[str, ...]
    verifiers: tuple[Key, ...]
    signer: Key | None
    uid_of: UidOf
    _known: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def issue(self, subject: TokenSubject, *, audiences: Sequence[str], lifetime_s: int, now: int) -> str:
        """A signed token for `subject`."""
        import jwt

        if self.signer is None:
            raise ConfigError("no --service-account-signing-key-file: tokens cannot be issued")
        return jwt.encode(
            plan_claims(
                subject,
                issuer=self.issuer,
                audiences=audiences or self.audiences,
                not_before=now,
                expires=now + lifetime_s,
                token_id=str(uuid.uuid4()),
            ),
            self.signer.key,
            algorithm=self.signer.algorithm,
            headers={"kid": self.signer.key_id},
        )

    def authenticate(self, token: str, now: float, audiences: Sequence[str] = ()) -> User | None:
        """The user of a token, None where the token is not one of ours. Raises InvalidToken.

        `audiences`: those that the caller serves, the API server's own when empty.
        """
        claims = self._known.get(token)
        if claims is None:
            claims = self._verify(token)
            if claims is None:
                return None
            if len(self._known) >= CACHE_SIZE:
                self._known.clear()
            self._known[token] = claims
        check_times(claims, now)
        if not set(audiences or self.audiences) & set(claims["aud"]):
            raise InvalidToken(f"token audiences {claims['aud']} is invalid for the target audiences")
        self._check_objects(claims["kubernetes.io"])
        return user_of(claims)

    def _verify(self, token: str) -> Mapping[str, Any] | None:
        import jwt

        if not token.isascii():
            return None
        try:
            header, body = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            return None
        if body.get("iss") != self.issuer:
            return None
        for key in self.verifiers:
            if header.get("kid") in (None, key.key_id):
                try:
                    claims = jwt.decode(
                        token,
                        key.key,
                        algorithms=[key.algorithm],
                        options={"verify_exp": False, "verify_nbf": False, "verify_aud": False, "verify_iat": False},
                    )
                except jwt.PyJWTError:
                    continue
                return tidy_claims(claims)
        raise InvalidToken("signature is not of a key of this server")

    def _check_objects(self, bound: Mapping[str, Any]) -> None:
        namespace, account = bound["namespace"], bound["serviceaccount"]
        if self.uid_of("serviceaccounts", namespace, account["name"]) != account["uid"]:
            raise InvalidToken("service account has been deleted")
        for kind, plural in (("pod", "pods"), ("secret", "secrets")):
            if (ref := bound.get(kind)) and self.uid_of(plural, namespace, ref["name"]) != ref["uid"]:
                raise InvalidToken(f"{kind} the token is bound to has been deleted")


def plan_claims(
    subject: TokenSubject, *, issuer: str, audiences: Sequence[str], not_before: int, expires: int, token_id: str
) -> dict[str, Any]:
    """The claims of a bound token; times in seconds since the epoch."""
    bound: dict[str, Any] = {
        "namespace": subject.namespace,
        "serviceaccount": {"name": subject.name, "uid": subject.uid},
    }
    for ref in filter(None, (subject.binding, subject.node)):
        bound[ref.kind.lower()] = {"name": ref.name, "uid": ref.uid}
    return {
        "aud": list(audiences),
        "exp": expires,
        "iat": not_before,
        "iss": issuer,
        "jti": token_id,
        "kubernetes.io": bound,
        "nbf": not_before,
        "sub": f"{PREFIX}{subject.namespace}:{subject.name}",
    }


def tidy_claims(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims with `aud` as a list; InvalidToken where they are not those of a bound token."""
    audiences = claims.get("aud")
    try:
        bound = claims["kubernetes.io"]
        subject = f"{PREFIX}{bound['namespace']}:{bound['serviceaccount']['name']}"
        complete = claims["sub"] == subject and bool(bound["serviceaccount"]["uid"])
    except (KeyError, TypeError) as err:
        raise InvalidToken(f"claim {err} is missing") from err
    if not complete:
        raise InvalidToken("subject and ServiceAccount differ")
    return {**claims, "aud": [audiences] if isinstance(audiences, str) else list(audiences or ())}


def check_times(claims: Mapping[str, Any], now: float) -> None:
    """`exp` without leeway, `nbf` with a minute of it for clocks that differ."""
    if now >= claims.get("exp", 0):
        raise InvalidToken("token has expired")
    if now + LEEWAY_S < claims.get("nbf", 0):
        raise InvalidToken("token is not valid yet")


def user_of(claims: Mapping[str, Any]) -> User:
    bound = claims["kubernetes.io"]
    namespace, account = bound["namespace"], bound["serviceaccount"]
    extra = {CREDENTIAL_ID: (f"JTI={claims.get('jti', '')}",)}
    for kind in ("node", "pod"):
        if ref := bound.get(kind):
            extra[f"authentication.kubernetes.io/{kind}-name"] = (ref["name"],)
            extra[f"authentication.kubernetes.io/{kind}-uid"] = (ref["uid"],)
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED_GROUP)
    return User(claims["sub"], groups, account["uid"], extra)


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
