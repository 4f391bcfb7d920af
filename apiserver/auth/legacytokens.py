"""Tokens that live in Secrets of the type kubernetes.io/service-account-token: no end, no audience. Pure.

Source: kubernetes/pkg/serviceaccount/legacy.go (claims and texts).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from kubarium.machinery.accounttokens import LEGACY_ISSUER, NAME, NAMESPACE, PREFIX, SECRET, UID

INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
_MISSING = {NAMESPACE: "namespace", SECRET: "secretName", NAME: "serviceAccountName", UID: "serviceAccountUID"}


class InvalidToken(Exception):
    """The token is one of ours by its form, and not good (any more)."""


def tidy_claims(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims with an `aud` of none. Raises InvalidToken."""
    if not claims.get("sub"):
        raise InvalidToken("sub claim is missing")
    for claim, name in _MISSING.items():
        if not isinstance(claims.get(claim), str) or not claims[claim]:
            raise InvalidToken(f"{name} claim is missing")
    if claims["sub"] != f"{PREFIX}{claims[NAMESPACE]}:{claims[NAME]}":
        raise InvalidToken("sub claim is invalid")
    audiences = claims.get("aud")
    return {**claims, "aud": [audiences] if isinstance(audiences, str) else list(audiences or ())}


def account_of(claims: Mapping[str, Any]) -> tuple[str, str, str]:
    """Namespace, name and uid of the account of any token, of this or the newer form."""
    if claims["iss"] == LEGACY_ISSUER:
        return claims[NAMESPACE], claims[NAME], claims[UID]
    bound = claims["kubernetes.io"]
    return bound["namespace"], bound["serviceaccount"]["name"], bound["serviceaccount"]["uid"]


def places(claims: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    namespace = claims[NAMESPACE]
    return [("secrets", namespace, claims[SECRET]), ("serviceaccounts", namespace, claims[NAME])]


def check_objects(claims: Mapping[str, Any], token: str, objects: Sequence[Mapping[str, Any] | None]) -> None:
    """`objects`: the Secret and the ServiceAccount. Raises InvalidToken."""
    secret, account = objects
    if secret is None or secret["metadata"].get("deletionTimestamp"):
        raise InvalidToken("Token has been invalidated")
    stored = base64.b64decode((secret.get("data") or {}).get("token") or "")
    if not hmac.compare_digest(stored, token.encode()):
        raise InvalidToken("Token does not match server's copy")
    namespace, name = claims[NAMESPACE], claims[NAME]
    if account is None:
        raise InvalidToken(f'serviceaccounts "{name}" not found')
    if account["metadata"].get("deletionTimestamp"):
        raise InvalidToken(f"ServiceAccount {namespace}/{name} has been deleted")
    if (uid := account["metadata"]["uid"]) != claims[UID]:
        raise InvalidToken(f"ServiceAccount UID ({uid}) does not match claim ({claims[UID]})")
    if (secret["metadata"].get("labels") or {}).get(INVALID_SINCE):
        raise InvalidToken(
            f"the token in secret {namespace}/{claims[SECRET]} for service account {namespace}/{name} has been marked "
            "invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the "
            f"'{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        )
