"""Pieces that every description is made of: a head, annotations, maps, moments. Lines hold tabs that `tabs` aligns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubarium.cli.http import Server
from kubarium.machinery.times import parse_timestamp

Lines = list[str]
Obj = dict[str, Any]
Describer = Callable[[Server, Obj], Lines]
HIDDEN_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration",)
LONGEST_VALUE = 140


def head(obj: Obj, *more: str, namespaced: bool = True) -> Lines:
    """Name, namespace, what else comes before the labels, labels, annotations."""
    meta = obj["metadata"]
    lines = [f"Name:\t{meta['name']}"]
    if namespaced:
        lines.append(f"Namespace:\t{meta.get('namespace', '')}")
    return [*lines, *more, *mapping("Labels", meta.get("labels"), "="), *annotation_lines(meta)]


def annotation_lines(meta: Mapping[str, Any]) -> Lines:
    shown = {key: value for key, value in (meta.get("annotations") or {}).items() if key not in HIDDEN_ANNOTATIONS}
    lines: Lines = []
    for key, value in sorted(shown.items()):
        if len(value) + len(key) + 2 > LONGEST_VALUE or "\n" in value:
            texts = [f"{key}:", *(f"  {part}" for part in value.rstrip().split("\n"))]
        else:
            texts = [f"{key}: {value}"]
        lines += [f"\t{text}" for text in texts]
    return ["Annotations:" + lines[0], *lines[1:]] if lines else ["Annotations:\t<none>"]


def mapping(title: str, values: Mapping[str, str] | None, between: str, indent: str = "") -> Lines:
    """`Labels:  a=b`, further entries below the first."""
    texts = [f"{key}{between}{value}" for key, value in sorted((values or {}).items())] or ["<none>"]
    return [f"{indent}{title}:\t{texts[0]}", *(f"{indent}\t{text}" for text in texts[1:])]


def moment(text: str | None) -> str:
    """`Sat, 31 Jan 2026 12:00:00 +0000`."""
    seconds = parse_timestamp(text or "")
    return "<unset>" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%a, %d %b %Y %H:%M:%S %z")
