"""Names of fields as CEL has them: `a-b` is `a__dash__b`, `namespace` is `__namespace__`.

Source: Kubernetes documentation, "Validation rules", "Field names".
"""

from __future__ import annotations

import re

RESERVED = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_PARTS = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_ESCAPABLE = re.compile(r"[A-Za-z_./-][A-Za-z0-9_./-]*").fullmatch
_PART = re.compile(r"__|[-./]")


def escape(name: str) -> str | None:
    """None where a name cannot be written in CEL at all."""
    if name in RESERVED:
        return f"__{name}__"
    if _PLAIN(name) and "__" not in name:
        return name
    if not _ESCAPABLE(name):
        return None
    return _PART.sub(lambda match: _PARTS[match.group()], name)
