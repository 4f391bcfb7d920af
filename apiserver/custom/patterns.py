"""Regular expressions in RE2's syntax, with the errors that Go's parser would give.

Source: https://github.com/google/re2/wiki/Syntax; golang regexp/syntax (the texts of errors).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_GO_TEXTS = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid repetition size": "invalid repeat count",
    "invalid named capture group": "invalid named capture",
}


class BadPattern(ValueError):
    """Not a regular expression, in the words of Go's parser."""


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Any:
    """An object with re2's `search` and `finditer`. Raises BadPattern."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as err:
        raise BadPattern(_go_text(err, pattern)) from err


def _go_text(err: Exception, pattern: str) -> str:
    raw = err.args[0] if err.args else ""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    if text.startswith("trailing"):
        return "error parsing regexp: trailing backslash at end of expression: ``"
    code, _, shown = text.partition(": ")
    if code == "missing )":
        shown = pattern
    elif code == "invalid perl operator" and shown.startswith("(?"):
        shown = shown[:3] if shown[:3] != "(?<" else shown[:4]
    return f"error parsing regexp: {_GO_TEXTS.get(code, code)}: `{shown}`"


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere. Raises BadPattern."""
    return compiled(pattern).search(text) is not None
