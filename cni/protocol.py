"""What is said on the agent's socket: one JSON request a connection, one CNI result or CNI error back, a line each.

The fields are those of the CNI specification 1.1 (containerID, netns, ifname, args, network configuration), with the
command beside them and the pod's labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from cni.ipam import Allocation, Owner, PodRef
from cni.wiring import GATEWAY, Wired
from kubarium.machinery.errors import ClusterError

VERSION = "1.1.0"
SUPPORTED = ("0.3.1", "0.4.0", "1.0.0", VERSION)
VALID_ATTACHMENTS = "cni.dev/valid-attachments"
NOBODY, NO_POD = Owner("", ""), PodRef()
_CONTAINER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_INTERFACE = re.compile(r"[^\s/:]{1,15}")


class Command(StrEnum):
    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    GC = "GC"
    STATUS = "STATUS"
    VERSION = "VERSION"


class Code(IntEnum):
    """Error codes of the specification, and one of ours (100 and up)."""

    UNKNOWN_CONTAINER = 3
    INVALID_PARAMETER = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    NOT_WIRED = 100


class CniError(ClusterError):
    """A refusal, as it goes over the wire."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    def to_json(self) -> dict[str, Any]:
        error = {"cniVersion": VERSION, "code": int(self.code), "msg": str(self)}
        return error | {"details": self.details} if self.details else error


@dataclass(frozen=True, slots=True)
class Request:
    """One call, checked. `owner` is empty for GC, STATUS and VERSION; `valid` is for GC alone.

    `host_ports` are those of the capability portMappings, which nothing here serves yet.
    """

    command: Command
    owner: Owner = NOBODY
    netns: str = ""
    pod: PodRef = NO_POD
    labels: Mapping[str, str] = field(default_factory=dict)
    valid: tuple[Owner, ...] = ()
    host_ports: tuple[int, ...] = ()


def parse_request(data: Any) -> Request:
    """Raises CniError, naming the field, for what the specification does not allow."""
    if not isinstance(data, dict):
        raise CniError(Code.DECODING_FAILURE, "request: expected a JSON object")
    try:
        command = Command(data.get("command", ""))
    except ValueError:
        expected = ", ".join(Command)
        raise CniError(
            Code.INVALID_PARAMETER, f"command: unknown {data.get('command')!r}, expected one of {expected}"
        ) from None
    if command in (Command.STATUS, Command.VERSION):
        return Request(command)
    if command is Command.GC:
        return Request(command, valid=_valid_attachments(data.get("config")))
    owner = Owner(
        _matching(data, "containerID", _CONTAINER_ID, "letters, digits, '_', '.' and '-'"),
        _matching(data, "ifname", _INTERFACE, "1 to 15 characters without '/', ':' and blanks"),
    )
    if owner.interface in (".", ".."):
        raise CniError(Code.INVALID_PARAMETER, f"ifname: {owner.interface!r} cannot be the name of an interface")
    netns = _text(data, "netns")
    if not netns and command is not Command.DEL:
        raise CniError(Code.INVALID_PARAMETER, f"netns: {command} needs the path of the network namespace")
    args, labels = _texts(data, "args"), _texts(data, "labels")
    pod = PodRef(*(args.get(f"K8S_POD_{name}", "") for name in ("NAMESPACE", "NAME", "UID")))
    return Request(command, owner, netns, pod, labels, host_ports=_host_ports(data.get("config")))


def result(allocation: Allocation, wired: Wired, netns: str) -> dict[str, Any]:
    """The answer to ADD. The /32 is what stands on the interface; interface 1 is the pod's end."""
    return {
        "cniVersion": VERSION,
        "interfaces": [
            {"name": wired.host_interface, "mac": wired.host_mac},
            {"name": wired.interface, "mac": wired.mac, "sandbox": netns},
        ],
        "ips": [{"address": f"{a}/32", "gateway": GATEWAY, "interface": 1} for a in allocation.addresses],
        "routes": [{"dst": f"{GATEWAY}/32"}, {"dst": "0.0.0.0/0", "gw": GATEWAY}],
        "dns": {},
    }


def _valid_attachments(config: Any) -> tuple[Owner, ...]:
    """Without the list GC must not guess: an empty list says that nothing is valid, a missing one says nothing."""
    listed = config.get(VALID_ATTACHMENTS) if isinstance(config, dict) else None
    if not isinstance(listed, list):
        raise CniError(Code.INVALID_CONFIG, f"config: GC needs the list {VALID_ATTACHMENTS}")
    try:
        return tuple(Owner(str(entry["containerID"]), str(entry["ifname"])) for entry in listed)
    except (TypeError, KeyError) as err:
        raise CniError(
            Code.INVALID_CONFIG, f"config: {VALID_ATTACHMENTS}: expected objects with containerID and ifname"
        ) from err


def _host_ports(config: Any) -> tuple[int, ...]:
    try:
        mappings = ((config or {}).get("runtimeConfig") or {}).get("portMappings") or []
        return tuple(int(m["hostPort"]) for m in mappings if m.get("hostPort"))
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise CniError(Code.INVALID_CONFIG, "config: runtimeConfig.portMappings: expected a list of mappings") from err


def _matching(data: Mapping[str, Any], name: str, pattern: re.Pattern[str], expected: str) -> str:
    text = _text(data, name)
    if not pattern.fullmatch(text):
        raise CniError(Code.INVALID_PARAMETER, f"{name}: {text!r}, expected {expected}")
    return text


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name) or ""
    if not isinstance(value, str):
        raise CniError(Code.DECODING_FAILURE, f"{name}: expected text, not {type(value).__name__}")
    return value


def _texts(data: Mapping[str, Any], name: str) -> dict[str, str]:
    value = data.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise CniError(Code.DECODING_FAILURE, f"{name}: expected an object of texts")
    return value
