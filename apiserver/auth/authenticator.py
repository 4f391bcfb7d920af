"""The chain of authenticators: client certificate, bearer token (file, ServiceAccount), anonymous.

Source: Kubernetes documentation, "Authenticating": the first that knows the caller decides; a bearer token that
nobody knows is refused (401) and never taken for anonymous.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from apiserver.auth.legacytokens import InvalidToken
from apiserver.auth.serviceaccounts import CREDENTIAL_ID, ServiceAccountTokens
from apiserver.auth.tokens import token_digest
from apiserver.request import ANONYMOUS, AUTHENTICATED_GROUP, UNAUTHENTICATED_GROUP, User
from kubarium.machinery.errors import Unauthorized

FINGERPRINT = "fingerprint"
ANONYMOUS_USER = User(ANONYMOUS, (UNAUTHENTICATED_GROUP,))


class Subject(NamedTuple):
    """Common name and organizations of a client certificate, and the SHA-256 of all of it."""

    name: str
    groups: tuple[str, ...]
    fingerprint: str = ""


class Verdict(NamedTuple):
    """Of a token: whose it is, for which of the audiences, or why it is nobody's ("": it is of no kind of ours)."""

    user: User | None
    audiences: tuple[str, ...] = ()
    trouble: str = ""


UNKNOWN = Verdict(None)


@dataclass
class Authenticator:
    """`tokens` maps the digest of a fixed token to its user (see `tokens.load_token_file`)."""

    tokens: Mapping[bytes, User] = field(default_factory=dict)
    service_accounts: ServiceAccountTokens | None = None
    bootstrap_tokens: Callable[[str, float], User | None] | None = None
    clock: Callable[[], float] = time.time

    def authenticate(self, *, token: str = "", subject: Subject | None = None) -> User:
        """Who calls. `subject` is of a certificate that the TLS layer has verified.

        Raises Unauthorized for a token that nobody knows.
        """
        if subject is not None and subject.name:
            extra = {CREDENTIAL_ID: (f"X509SHA256={subject.fingerprint}",)} if subject.fingerprint else {}
            return User(subject.name, (*subject.groups, AUTHENTICATED_GROUP), "", extra)
        if not token:
            return ANONYMOUS_USER
        user = self.user_of_token(token)
        if user is None:
            raise Unauthorized("Unauthorized")
        return user

    def is_fixed(self, token: str) -> bool:
        """Whether a token is good for as long as the server runs."""
        return token_digest(token) in self.tokens

    def user_of_token(self, token: str) -> User | None:
        """For requests; None where the token is not good for this server."""
        return self.judge_token(token).user

    def judge_token(self, token: str, audiences: Sequence[str] = ()) -> Verdict:
        """For TokenReviews, too: a token must be good for one of `audiences`, those of this server where none is
        named. Fixed tokens and those of nodes that join are good for this server alone.
        """
        ours = self.service_accounts.audiences if self.service_accounts else ()
        wanted = tuple(audiences) or ours
        if (user := self.tokens.get(token_digest(token)) or self._bootstrap(token)) is not None:
            common = tuple(one for one in wanted if one in ours)
            return Verdict(user, common) if common or not wanted else UNKNOWN
        if self.service_accounts is None:
            return UNKNOWN
        try:
            found = self.service_accounts.authenticate(token, self.clock(), wanted)
        except InvalidToken as err:
            return Verdict(None, (), str(err))
        return UNKNOWN if found is None else Verdict(found[0], found[1])

    def _bootstrap(self, token: str) -> User | None:
        return self.bootstrap_tokens(token, self.clock()) if self.bootstrap_tokens else None


def peer_certificate(transport: asyncio.BaseTransport) -> dict[str, object] | None:
    """The verified certificate of a TLS connection as `ssl.SSLObject.getpeercert` gives it, and its fingerprint."""
    found = transport.get_extra_info("peercert")
    connection = transport.get_extra_info("ssl_object")
    if not found or connection is None:
        return None
    return {**found, FINGERPRINT: hashlib.sha256(connection.getpeercert(binary_form=True)).hexdigest()}


def subject_of(peer_certificate: Mapping[str, object] | None) -> Subject | None:
    """Out of what `peer_certificate` gives."""
    if not peer_certificate:
        return None
    pairs = [pair for rdn in peer_certificate.get("subject", ()) for pair in rdn]  # type: ignore[attr-defined]
    name = next((value for key, value in pairs if key == "commonName"), "")
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return Subject(name, groups, str(peer_certificate.get(FINGERPRINT, "")))
