"""The expressions that select devices: whether they are CEL about a device, and give a bool.

Source: k8s.io/dynamic-resource-allocation/cel (the variable `device`, texts).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apiserver.cel.environment import Environment

_WORD = re.compile(r"[\w.]+")


@cache
def _environment() -> Environment:
    """Made when the first selector is looked at. What a domain of a device holds is untyped here."""
    from cel_expr_python.ext import ext_bindings

    from apiserver.cel.declared import BOOL, STRING, Declared
    from apiserver.cel.environment import Environment

    domains = Declared("map", items=Declared("map", items=Declared("dyn")))
    fields = {"driver": STRING, "allowMultipleAllocations": BOOL, "attributes": domains, "capacity": domains}
    found = Environment([ext_bindings.ExtBindings()])
    found.declare("device", Declared("object", fields=fields))
    return found


def selector_fault(expression: str) -> str:
    """Why an expression cannot select devices; "" where it can."""
    from apiserver.cel.environment import CompileError

    environment = _environment()
    try:
        if environment.compile(expression).result == "bool":
            return ""
        result = environment.type_of(expression)
    except CompileError as err:
        text = f"compilation failed: {err}"
        return text if expression else text.replace("<input>:1:1:", "<input>:1:0:").rstrip()  # nothing has no places
    return "" if result in ("BOOL", "DYN") else f"must evaluate to bool or the unknown type, not {_shown(result)}"


def _shown(name: str) -> str:
    """`MAP<STRING, kubernetes.Quantity>` as cel-go has it: `map(string, kubernetes.Quantity)`."""
    words = _WORD.sub(lambda match: match.group() if "." in match.group() else match.group().lower(), name)
    return words.replace("<", "(").replace(">", ")")
