"""Tokens with which nodes join: Secrets of the type bootstrap.kubernetes.io/token in kube-system.

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens"; plugin/pkg/auth/authenticator/token/bootstrap.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from apiserver.request import AUTHENTICATED_GROUP, User

SECRET_TYPE, NAMESPACE, SECRET_PREFIX = "bootstrap.kubernetes.io/token", "kube-system", "bootstrap-token-"
USER_PREFIX, GROUP = "system:bootstrap:", "system:bootstrappers"
_token = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})").fullmatch
_group = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]").fullmatch


def authenticator(secret_of: Callable[[str], Mapping[str, Any] | None]) -> Callable[[str, float], User | None]:
    """`secret_of` gives a Secret of kube-system by its name."""

    def authenticate(token: str, now: float) -> User | None:
        found = _token(token)
        if found is None:
            return None
        token_id, secret = found.groups()
        stored = secret_of(SECRET_PREFIX + token_id)
        return user_of(stored, token_id, secret, now) if stored else None

    return authenticate


def user_of(stored: Mapping[str, Any], token_id: str, secret: str, now: float) -> User | None:
    """None for a token that is wrong, over, or not meant for this."""
    if stored["metadata"].get("deletionTimestamp") or stored.get("type") != SECRET_TYPE:
        return None
    data = {key: _text(value) for key, value in (stored.get("data") or {}).items()}
    if not hmac.compare_digest(data.get("token-secret", "").encode(), secret.encode()):
        return None
    if data.get("token-id") != token_id or is_over(data.get("expiration", ""), now):
        return None
    if data.get("usage-bootstrap-authentication") != "true":
        return None
    groups = groups_of(data.get("auth-extra-groups", ""))
    return User(USER_PREFIX + token_id, (*groups, AUTHENTICATED_GROUP)) if groups else None


def groups_of(extra: str) -> list[str]:
    """In order; none where one of the additional ones has no name that such a group may have."""
    named = extra.split(",") if extra else []
    return sorted({GROUP, *named}) if all(map(_group, named)) else []


def is_over(expiration: str, now: float) -> bool:
    """A time that cannot be read is over."""
    if not expiration:
        return False
    try:
        return datetime.fromisoformat(expiration).timestamp() <= now
    except ValueError:
        return True


def _text(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
