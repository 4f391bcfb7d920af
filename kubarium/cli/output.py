"""`-o`: how objects are printed when not as a table."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kubarium.cli.kinds import Kind
from kubarium.cli.run import UsageError
from kubarium.machinery.errors import ClusterError

STR = "tag:yaml.org,2002:str"
Objects = Sequence[tuple[Kind, dict[str, Any]]]
FORMATS = "json, yaml, name, wide, jsonpath=..., jsonpath-file=..., custom-columns=..."


def is_table(output: str) -> bool:
    return output in ("", "wide")


def as_list(objects: Objects) -> dict[str, Any]:
    """Several objects as kubectl's List."""
    return {
        "apiVersion": "v1",
        "items": [obj for _, obj in objects],
        "kind": "List",
        "metadata": {"resourceVersion": ""},
    }


def print_objects(output: str, objects: Objects, *, single: bool, show_managed_fields: bool = False) -> None:
    """Print in the format of `-o`; `single` prints one object as itself, not as a List of one."""
    if not show_managed_fields:
        for _, obj in objects:
            (obj.get("metadata") or {}).pop("managedFields", None)
    if output == "name":
        for kind, obj in objects:
            print(f"{kind.qualified}/{obj['metadata']['name']}")
        return
    document = objects[0][1] if single and objects else as_list(objects)
    sys.stdout.write(_formatter(output)(document))


def _formatter(output: str) -> Callable[[Any], str]:
    kind, _, argument = output.partition("=")
    if kind == "json" and not argument:
        return lambda document: json.dumps(document, indent=4, sort_keys=True, ensure_ascii=False) + "\n"
    if kind == "yaml" and not argument:
        return to_yaml
    if kind in ("jsonpath", "jsonpath-file"):
        return _jsonpath_formatter(kind, argument)
    if kind == "custom-columns":
        return lambda document: _custom_columns(argument, document)
    raise UsageError(f'unable to match a printer suitable for the output format "{output}", allowed formats: {FORMATS}')


def _jsonpath_formatter(kind: str, argument: str) -> Callable[[Any], str]:
    from kubarium.cli import jsonpath

    if kind == "jsonpath-file":
        try:
            argument = Path(argument).read_text()
        except OSError as err:
            raise ClusterError(f"{argument}: {err.strerror}") from err
    if not argument:
        raise UsageError("template format specified but no template given")
    return lambda document: jsonpath.render(argument, document)


def _custom_columns(spec: str, document: dict[str, Any]) -> str:
    from kubarium.cli import jsonpath
    from kubarium.cli.table import Printer

    columns = [column.partition(":") for column in re.split(r",(?=[^,:]+:)", spec)]
    if not all(colon for _, colon, _ in columns):
        raise UsageError(f"expected <header>:<json-path-expr>, got: {spec}")
    items = document["items"] if document.get("kind") == "List" else [document]
    rows = [[_column(jsonpath.values(path, item)) for _, _, path in columns] for item in items]
    Printer().print([header for header, _, _ in columns], rows)
    return ""


def _column(values: Sequence[Any]) -> str:
    return ",".join(v if isinstance(v, str) else json.dumps(v) for v in values) or "<none>"


def to_yaml(document: Any) -> str:
    """YAML in the layout of sigs.k8s.io/yaml: sorted keys, lists at the level of their key, long lines unbroken."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def represent_str(self, text: str) -> Any:
            return self.represent_scalar(STR, text, style=self._style(text))

        def _style(self, text: str) -> str | None:
            """Blocks for lines, double quotes for what would be read as something else, as Go's YAML does."""
            if "\n" in text:
                return None if re.search(r"[ \t]\n", text) or text[:1].isspace() else "|"
            plain = self.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
            return None if plain == STR else '"'

    Dumper.add_representer(str, Dumper.represent_str)
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=True, width=2**31, allow_unicode=True))
