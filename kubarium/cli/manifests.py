"""Manifests: files, folders and standard input, YAML or JSON, several documents in one, Lists opened."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kubarium.machinery.errors import ClusterError

SUFFIXES = (".yaml", ".yml", ".json")


class Manifest(NamedTuple):
    """One object and where it was written; `source` is the file's name as it was given, or STDIN."""

    obj: dict[str, Any]
    source: str

    @property
    def name(self) -> str:
        return str((self.obj.get("metadata") or {}).get("name") or "")

    @property
    def namespace(self) -> str:
        return str((self.obj.get("metadata") or {}).get("namespace") or "")


def read_files(names: Sequence[str], *, recursive: bool = False) -> list[Manifest]:
    """Every object of the named files, in order. Raises ClusterError with file and reason."""
    found = [manifest for name in names for manifest in _read(name, recursive)]
    if not found:
        raise ClusterError("no objects passed to apply")
    return found


def _read(name: str, recursive: bool) -> Iterator[Manifest]:
    if name == "-":
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as err:
            raise ClusterError(f"error parsing STDIN: not text in UTF-8 (byte {err.start})") from err
        yield from parse(text, "STDIN")
        return
    path = Path(name)
    if not path.exists():
        raise ClusterError(f'the path "{name}" does not exist')
    files = [path]
    if path.is_dir():
        inside = path.rglob("*") if recursive else path.iterdir()
        files = sorted(file for file in inside if file.is_file() and file.suffix in SUFFIXES)
        if not files:
            raise ClusterError(f"error reading [{name}]: recognized file extensions are [.json .yaml .yml]")
    for file in files:
        try:
            text = file.read_text()
        except OSError as err:
            raise ClusterError(f"{file}: {err.strerror}") from err
        except UnicodeDecodeError as err:
            raise ClusterError(f"error parsing {file}: not text in UTF-8 (byte {err.start})") from err
        yield from parse(text, str(file))


def parse(text: str, source: str) -> Iterator[Manifest]:
    """The objects of one text. Raises ClusterError where it is neither YAML nor JSON, or holds no object."""
    for document in _documents(text, source):
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ClusterError(f"error parsing {source}: expected an object, found {type(document).__name__}")
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            yield from (Manifest(item, source) for item in document["items"])
        else:
            yield Manifest(document, source)


def _documents(text: str, source: str) -> list[Any]:
    if text.lstrip().startswith("{"):
        try:
            return [json.loads(text)]
        except ValueError:
            pass  # YAML in flow style, or several documents
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(yaml.load_all(text, Loader=_plain(loader)))
    except yaml.YAMLError as err:
        place = getattr(err, "problem_mark", None)
        where = f"line {place.line + 1}: " if place else ""
        problem = getattr(err, "problem", None) or str(err)
        raise ClusterError(f"error parsing {source}: error converting YAML to JSON: yaml: {where}{problem}") from err


def _plain(loader: Any) -> Any:
    """YAML as JSON has it: dates stay text."""

    class Plain(loader):  # type: ignore[misc]
        pass

    Plain.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in loader.yaml_implicit_resolvers.items()
    }
    return Plain
