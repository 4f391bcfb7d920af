"""Tokens of ServiceAccounts: issued by the `token` subresource, checked on every request.

A token is good while its signature, times, issuer and audience are, and while the ServiceAccount (and the Pod, Secret
or Node that it is bound to) exists with the uid that it was issued for.
Source: KEP-1205 (bound service account tokens); kubernetes/pkg/serviceaccount (claims and texts).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import is_
from typing import TYPE_CHECKING, Any

import orjson

from apiserver.auth import legacytokens
from apiserver.auth.legacytokens import InvalidToken
from apiserver.registry.faults import quoted
from apiserver.request import AUTHENTICATED_GROUP, User
from kubarium.machinery.accounttokens import LEGACY_ISSUER, PREFIX, Key, sign
from kubarium.machinery.errors import ConfigError

if TYPE_CHECKING:
    from apiserver.watchcache import Entry

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
LEEWAY_S = 60
CACHE_SIZE = 4096
INVALIDATED = "service account token has been invalidated"

Lookup = Callable[[str, str, str], "Entry | None"]
"""(plural, namespace, name) -> the object as the cache has it, None where there is none."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The object that a token lives and dies with; `kind` is Pod, Secret or Node. No uid: it is not there."""

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
class Lifetime:
    """`seconds` from now; `warn_after_s`: from then on its use is worth a warning, 0: never."""

    seconds: int
    warn_after_s: int = 0


@dataclass(slots=True)
class _Known:
    """A token whose signature is good, and the objects that it was last found to agree with."""

    claims: Mapping[str, Any]
    user: User
    seen: tuple[Entry | None, ...] = ()


@dataclass
class ServiceAccountTokens:
    """Issuer and verifier. `signer` None: this server issues no tokens."""

    issuer: str
    audiences: tuple[str, ...]
    verifiers: tuple[Key, ...]
    signer: Key | None
    lookup: Lookup
    _known: dict[str, _Known] = field(default_factory=dict)

    def issue(self, subject: TokenSubject, *, audiences: Sequence[str], lifetime: Lifetime, now: int) -> str:
        """A signed token for `subject`; `now` in seconds since the epoch."""
        if self.signer is None:
            raise ConfigError("no --service-account-signing-key-file: tokens cannot be issued")
        claims = plan_claims(
            subject,
            issuer=self.issuer,
            audiences=audiences or self.audiences,
            now=now,
            lifetime=lifetime,
            token_id=str(uuid.uuid4()),
        )
        return sign(claims, self.signer)

    def authenticate(
        self, token: str, now: float, audiences: Sequence[str] = ()
    ) -> tuple[User, tuple[str, ...]] | None:
        """The user of a token and those of `audiences` (the API server's own when empty) that it is good for; None
        where the token is not one of ours. Raises InvalidToken."""
        known = self._known.get(token)
        if known is None:
            if (claims := self._verify(token)) is None:
                return None
            if len(self._known) >= CACHE_SIZE:
                self._known.clear()
            known = self._known[token] = _Known(claims, user_of(claims))
        claims, wanted = known.claims, audiences or self.audiences
        own = claims["aud"] or self.audiences
        common = tuple(one for one in own if one in wanted)
        if not common:
            shown = ("[" + " ".join(map(quoted, some)) + "]" for some in (own, wanted))
            raise InvalidToken("token audiences {} is invalid for the target audiences {}".format(*shown))
        check_times(claims, now)
        self._check_objects(token, known, now)
        return known.user, common

    def _verify(self, token: str) -> Mapping[str, Any] | None:
        import jwt

        if not token.isascii():
            return None
        try:
            header, body = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            return None
        issuer = body.get("iss")
        if issuer not in (self.issuer, LEGACY_ISSUER):
            return None
        keys = [key for key in self.verifiers if header.get("kid") in (None, "", key.key_id)]
        if not keys:
            raise InvalidToken("invalid signature, no keys found")
        for key in keys:
            try:
                claims = jwt.decode(
                    token,
                    key.key,
                    algorithms=[key.algorithm],
                    options={"verify_exp": False, "verify_nbf": False, "verify_aud": False, "verify_iat": False},
                )
            except jwt.PyJWTError:
                continue
            return legacytokens.tidy_claims(claims) if issuer == LEGACY_ISSUER else tidy_claims(claims)
        raise InvalidToken("go-jose/go-jose: error in cryptographic primitive")

    def _check_objects(self, token: str, known: _Known, now: float) -> None:
        """Looks at an object again only when it has changed."""
        claims = known.claims
        legacy = claims["iss"] == LEGACY_ISSUER
        places = legacytokens.places(claims) if legacy else bound_places(claims)
        entries = tuple(self.lookup(*place) for place in places)
        if known.seen and all(map(is_, entries, known.seen)):
            return
        objects = [orjson.loads(entry.data) if entry else None for entry in entries]
        if legacy:
            legacytokens.check_objects(claims, token, objects)
        else:
            check_objects(claims, objects, now)
            if any(obj and obj["metadata"].get("deletionTimestamp") for obj in objects):
                return  # good for another minute
        known.seen = entries


def plan_claims(
    subject: TokenSubject, *, issuer: str, audiences: Sequence[str], now: int, lifetime: Lifetime, token_id: str
) -> dict[str, Any]:
    """The claims of a bound token; times in seconds since the epoch."""
    bound: dict[str, Any] = {
        "namespace": subject.namespace,
        "serviceaccount": {"name": subject.name, "uid": subject.uid},
    }
    for ref in filter(None, (subject.binding, subject.node)):
        bound[ref.kind.lower()] = {"name": ref.name, "uid": ref.uid} if ref.uid else {"name": ref.name}
    if lifetime.warn_after_s:
        bound["warnafter"] = now + lifetime.warn_after_s
    return {
        "aud": list(audiences),
        "exp": now + lifetime.seconds,
        "iat": now,
        "iss": issuer,
        "jti": token_id,
        "kubernetes.io": bound,
        "nbf": now,
        "sub": f"{PREFIX}{subject.namespace}:{subject.name}",
    }


def tidy_claims(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims with `aud` as a list; InvalidToken where they are not those of a bound token."""
    audiences = claims.get("aud")
    try:
        bound = claims["kubernetes.io"]
        account = bound["serviceaccount"]
        complete = all(isinstance(part, str) and part for part in (bound["namespace"], account["name"], account["uid"]))
    except (KeyError, TypeError) as err:
        raise InvalidToken(f"claim {err} is missing") from err
    if not complete:
        raise InvalidToken("claims of a ServiceAccount are missing")
    return {**claims, "aud": [audiences] if isinstance(audiences, str) else list(audiences or ())}


def check_times(claims: Mapping[str, Any], now: float) -> None:
    """With a minute of leeway for clocks that differ."""
    if (expires := claims.get("exp")) is not None and now - LEEWAY_S > expires:
        raise InvalidToken("service account token has expired")
    if now + LEEWAY_S < claims.get("nbf", 0):
        raise InvalidToken("service account token is not valid yet")
    if now + LEEWAY_S < claims.get("iat", 0):
        raise InvalidToken("service account token is issued in the future")


def bound_places(claims: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(plural, namespace, name) of what a token depends on: the account first."""
    bound = claims["kubernetes.io"]
    namespace = bound["namespace"]
    places = [("serviceaccounts", namespace, bound["serviceaccount"]["name"])]
    places += [(f"{kind}s", namespace, bound[kind]["name"]) for kind in ("secret", "pod") if bound.get(kind)]
    if (node := bound.get("node")) and not bound.get("pod"):
        places.append(("nodes", "", node["name"]))
    return places


def check_objects(claims: Mapping[str, Any], objects: Sequence[Mapping[str, Any] | None], now: float) -> None:
    """`objects` in the order of `bound_places`. Raises InvalidToken."""
    bound = claims["kubernetes.io"]
    for (plural, namespace, name), obj in zip(bound_places(claims), objects, strict=True):
        kind = plural.removesuffix("s")
        account = kind == "serviceaccount"
        if obj is None:
            raise InvalidToken(f'serviceaccounts "{name}" not found' if account else INVALIDATED)
        uid, wanted = obj["metadata"]["uid"], bound[kind].get("uid", "")
        if uid != wanted:
            own, claim = ("service account", "") if account else (kind, f"service account {kind} ref ")
            raise InvalidToken(f"{own} UID ({uid}) does not match {claim}claim ({wanted})")
        deleted = obj["metadata"].get("deletionTimestamp")
        if deleted and datetime.fromisoformat(deleted).timestamp() < now - LEEWAY_S:
            raise InvalidToken(f"service account {namespace}/{name} has been deleted" if account else INVALIDATED)


def user_of(claims: Mapping[str, Any]) -> User:
    """A legacy token has an id neither of its own nor of a pod."""
    namespace, name, uid = legacytokens.account_of(claims)
    bound = claims.get("kubernetes.io") or {}
    extra = {CREDENTIAL_ID: (f"JTI={claims['jti']}",)} if claims.get("jti") and bound else {}
    for kind in ("node", "pod"):
        ref = bound.get(kind) or {}
        for key in ("name", "uid"):
            if ref.get(key):
                extra[f"authentication.kubernetes.io/{kind}-{key}"] = (ref[key],)
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED_GROUP)
    return User(f"{PREFIX}{namespace}:{name}", groups, uid, extra)
