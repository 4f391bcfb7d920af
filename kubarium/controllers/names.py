"""Suffixes of generated names, in Kubernetes' alphabet: no vowels, nothing that reads as another character."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def short_hash(*parts: str) -> str:
    """A stable word of at most ten safe characters for `parts`."""
    number = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:4], "big")
    return "".join(_ALPHABET[int(digit)] for digit in str(number))


def template_hash(template: Mapping[str, Any], collisions: int) -> str:
    """The value of the label pod-template-hash; `collisions` (status.collisionCount) leads past a name that is taken.

    Upstream hashes a dump of its Go struct; nobody else computes the value, so any stable one will do.
    """
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return short_hash(text, str(collisions)) if collisions else short_hash(text)
