"""The token file: fixed bearer tokens, one a line: token,user,uid,"group1,group2".

Source: Kubernetes documentation, "Static token file".
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from apiserver.request import AUTHENTICATED_GROUP, User
from kubarium.machinery.errors import ConfigError

COLUMNS_NEEDED = 3


def load_token_file(path: str) -> dict[bytes, User]:
    """Digest of each token -> its user. ConfigError where the file cannot be read or a line is short."""
    try:
        with Path(path).open(newline="") as lines:
            rows = [row for row in csv.reader(lines) if row and not row[0].startswith("#")]
    except OSError as err:
        raise ConfigError(f"--token-auth-file {path}: {err.strerror}") from err
    for number, row in enumerate(rows, 1):
        if len(row) < COLUMNS_NEEDED or not row[0] or not row[1]:
            raise ConfigError(f'--token-auth-file {path}: line {number}: expected token,user,uid[,"group1,group2"]')
    return {
        token_digest(row[0]): fixed_user(row[1], row[2], row[3] if len(row) > COLUMNS_NEEDED else "") for row in rows
    }


def fixed_user(name: str, uid: str, groups: str) -> User:
    """`groups` are comma-separated; every known user is also in system:authenticated."""
    named = [group.strip() for group in groups.split(",") if group.strip()]
    return User(name, (*named, AUTHENTICATED_GROUP), uid)


def token_digest(token: str) -> bytes:
    """What tokens are looked up by, so that the time of a look-up tells nothing of the token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()  # headers bring any byte, as a surrogate
