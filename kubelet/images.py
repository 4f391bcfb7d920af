"""Which image a name means, and whether it must be pulled. Pure, but for reading the alias file.

Source: https://kubernetes.io/docs/concepts/containers/images/
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path

from kubarium.machinery.errors import ConfigError


class Aliases:
    """The alias file: patterns of image names (as in shells) and the image on this machine that stands in for each.

    It is read again when it changes. An image that is a stand-in itself counts as listed under its own name.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._table: Mapping[str, str] = {}
        self._stamp: tuple[int, int] | None = None

    def resolve(self, image: str) -> str | None:
        """The stand-in for an image, None for a name in no list."""
        table = self._read()
        forms = _forms(image)
        for form in forms:
            if form in table:
                return table[form]
        for pattern, target in table.items():
            if any(fnmatch.fnmatchcase(form, pattern) for form in forms):
                return target
        own = set(table.values())
        return next((form for form in forms if form in own), None)

    def _read(self) -> Mapping[str, str]:
        if self._path is None:
            return {}
        try:
            info = self._path.stat()
        except FileNotFoundError:
            return {}
        stamp = (info.st_mtime_ns, info.st_ino)
        if stamp != self._stamp:
            self._table, self._stamp = parse_aliases(self._path.read_text(), str(self._path)), stamp
        return self._table


def parse_aliases(text: str, source: str) -> Mapping[str, str]:
    """Raises ConfigError for anything but a JSON object of strings."""
    try:
        table = json.loads(text)
    except ValueError as err:
        raise ConfigError(f'image aliases {source}: {err}; expected JSON such as {{"nginx": "local/nginx"}}') from err
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise ConfigError(f"image aliases {source}: expected a JSON object of name patterns and images")
    return table


def pull_policy(policy: str, image: str) -> str:
    """The policy, or the default that the API server would have set."""
    if policy:
        return policy
    name, tag = split_tag(image)
    return "IfNotPresent" if tag not in ("", "latest") or "@" in name else "Always"


def split_tag(image: str) -> tuple[str, str]:
    """`registry:5000/web:v1` -> (`registry:5000/web`, `v1`); no tag: ""."""
    head, slash, last = image.rpartition("/")
    base, _, tag = last.partition(":")
    return (image, "") if "@" in image else (f"{head}{slash}{base}", tag)


def _forms(image: str) -> tuple[str, ...]:
    """The names under which an image may be listed: as written, with the tag that is meant."""
    _, tag = split_tag(image)
    return (image,) if tag or "@" in image else (image, f"{image}:latest")
