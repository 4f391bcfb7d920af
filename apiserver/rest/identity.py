"""Who calls: out of the client certificate of the connection or the bearer token of the request."""

from __future__ import annotations

from contextlib import suppress

from apiserver.auth.authenticator import Authenticator
from apiserver.request import User
from apiserver.rest.exchange import Exchange

BEARER = "bearer "
TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."
KEPT = 1024  # headers of fixed tokens that are remembered


class Identity:
    """The users of fixed tokens are remembered by the very header: such tokens are good as long as the server runs.
    Everything else is asked of the authenticator each time, because tokens of ServiceAccounts can be revoked."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._fixed: dict[bytes, User] = {}

    def user(self, exchange: Exchange) -> User:
        """Certificate first, then bearer token. Raises Unauthorized."""
        header = exchange.headers.get(b"authorization", b"")
        if exchange.subject is None and (known := self._fixed.get(header)) is not None:
            return known
        text = header.decode("utf-8", "surrogateescape")
        token = text[len(BEARER) :].strip() if text[: len(BEARER)].lower() == BEARER else ""
        if not token and not text and b"sec-websocket-protocol" in exchange.headers:
            token = websocket_token(exchange.header("Sec-WebSocket-Protocol"))
        user = self._authenticator.authenticate(token=token, subject=exchange.subject)
        if exchange.subject is None and token and header and self._authenticator.is_fixed(token):
            if len(self._fixed) >= KEPT:
                self._fixed.clear()
            self._fixed[header] = user
        return user


def websocket_token(protocols: str) -> str:
    """The token that browsers put among the protocols: base64url.bearer.authorization.k8s.io.TOKEN."""
    import base64
    import binascii

    for protocol in protocols.split(","):
        if protocol.strip().startswith(TOKEN_PROTOCOL):
            text = protocol.strip()[len(TOKEN_PROTOCOL) :]
            with suppress(binascii.Error, UnicodeDecodeError):
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    return ""
