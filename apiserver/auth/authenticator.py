"""The chain of authenticators: client certificate, bearer token (file, ServiceAccount), anonymous.

Source: Kubernetes documentation, "Authenticating": the first that knows the caller decides; a bearer token that
nobody knows is refused (401) and never taken for anonymous.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from apiserver.auth.serviceaccounts import InvalidToken, ServiceAccountTokens
from apiserver.auth.tokens import token_digest
from apiserver.request import ANONYMOUS, AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP, User
from kubarium.machinery.errors import Unauthorized

ANONYMOUS_USER = User(ANONYMOUS, (UNAUTHENTICATED_GROUP,))


@dataclass
class Authenticator:
    """`tokens` maps the digest of a fixed token to its user (see `tokens.load_token_file`)."""

    tokens: Mapping[bytes, User] = field(default_factory=dict)
    service_accounts: ServiceAccountTokens | None = None
    clock: Callable[[], float] = time.time

    def authenticate(self, *, token: str = "", subject: tuple[str, tuple[str, ...]] | None = None) -> User:
        """Who calls. `subject`: common name and organizations of a certificate that the TLS layer has verified.

        Raises Unauthorized for a token that nobody knows.
        """
        if subject is not None and subject[0]:
            return User(subject[0], (*subject[1], AUTHENTICATED_GROUP))
        if not token:
            return ANONYMOUS_USER
        user = self.user_of_token(token)
        if user is None:
            raise Unauthorized("Unauthorized")
        return user

    def user_of_token(self, token: str, audiences: Sequence[str] = ()) -> User | None:
        """For requests and for TokenReview; None where the token is not good, or for none of `audiences`.

        A fixed token is good for this server alone.
        """
        if (user := self.tokens.get(token_digest(token))) is not None:
            ours = self.service_accounts.audiences if self.service_accounts else ()
            return user if not audiences or set(audiences) & set(ours) else None
        if self.service_accounts is None:
            return None
        try:
            return self.service_accounts.authenticate(token, self.clock(), audiences)
        except InvalidToken:
            return None


def subject_of(peer_certificate: Mapping[str, object] | None) -> tuple[str, tuple[str, ...]] | None:
    """Common name and organizations out of the dict that `ssl.SSLObject.getpeercert` gives."""
    if not peer_certificate:
        return None
    pairs = [pair for rdn in peer_certificate.get("subject", ()) for pair in rdn]  # type: ignore[attr-defined]
    name = next((value for key, value in pairs if key == "commonName"), "")
    return name, tuple(value for key, value in pairs if key == "organizationName")
