"""What is published of the keys that ServiceAccount tokens are checked with.

Source: KEP-1393 (OIDC discovery of ServiceAccount tokens), RFC 7517.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubarium.machinery.accounttokens import Key


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
