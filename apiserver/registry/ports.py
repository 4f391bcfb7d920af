"""Protocols, port numbers and port references that Services, endpoints and containers share."""

from __future__ import annotations

from typing import Any

from apiserver.registry import names
from apiserver.registry.faults import Faults

PROTOCOLS = ("SCTP", "TCP", "UDP")


def check_port_or_name(value: Any, path: str, faults: Faults) -> None:
    """A port as a number or as the name of a container's port."""
    if isinstance(value, str):
        faults.each(path, value, names.port_name(value))
    else:
        faults.each(path, value, names.port_number(value))
