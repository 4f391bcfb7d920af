#!/usr/bin/env python3
"""The CNI plugin: an executable to the CNI specification 1.1 that passes each call on to the node's agent.

For runtimes that start plugins (our kubelet speaks to the agent directly). Standard library only, for a container
runtime starts it with whatever Python the node has. Network configuration, for example
/etc/cni/net.d/10-kubarium.conflist:

    {"cniVersion": "1.1.0", "name": "kubarium", "plugins": [
        {"type": "kubarium-cni", "socket": "/run/kubarium/default/node-1/cni.sock"}]}

Source: https://www.cni.dev/docs/spec/
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

SUPPORTED = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
ANSWER_S = 30.0
INCOMPATIBLE_VERSION, INVALID_ENVIRONMENT, DECODING_FAILURE, INVALID_CONFIG, TRY_AGAIN_LATER = 1, 4, 6, 7, 11
NOT_AVAILABLE = 50

NEEDS = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
    "VERSION": (),
}
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


class Refusal(Exception):
    """An error of the specification: code, message, details."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details


def run(env: Mapping[str, str], stdin: str) -> dict[str, Any] | None:
    """What goes to standard output, None for nothing. Raises Refusal."""
    command = env.get("CNI_COMMAND", "")
    if command not in NEEDS:
        expected = ", ".join(NEEDS)
        raise Refusal(INVALID_ENVIRONMENT, f"CNI_COMMAND: {command!r}, expected one of {expected}")
    config = parse_config(stdin)
    version = str(config.get("cniVersion") or "0.1.0")
    if command == "VERSION":
        return {"cniVersion": version if version in SUPPORTED else SUPPORTED[-1], "supportedVersions": list(SUPPORTED)}
    check_version(command, version)
    missing = [name for name in NEEDS[command] if not env.get(name)]
    if missing:
        raise Refusal(INVALID_ENVIRONMENT, f"{command}: environment variable {', '.join(missing)} must be set")
    path = config.get("socket")
    if not isinstance(path, str) or not path:
        raise Refusal(INVALID_CONFIG, "socket: the network configuration must name the agent's Unix socket")
    try:
        answer = ask(path, request_of(command, env, config))
    except OSError as err:
        code = NOT_AVAILABLE if command == "STATUS" else TRY_AGAIN_LATER
        raise Refusal(code, f"no answer from the CNI agent at {path}", str(err)) from err
    if "code" in answer:
        raise Refusal(int(answer["code"]), str(answer.get("msg", "")), str(answer.get("details", "")))
    return in_version(answer, version) if command == "ADD" else None


def parse_config(stdin: str) -> dict[str, Any]:
    try:
        config = json.loads(stdin)
    except ValueError as err:
        raise Refusal(DECODING_FAILURE, f"network configuration on standard input: {err}") from err
    if not isinstance(config, dict):
        raise Refusal(DECODING_FAILURE, "network configuration on standard input: expected a JSON object")
    return config


def check_version(command: str, version: str) -> None:
    if version not in SUPPORTED:
        details = f"config is {version!r}, plugin supports {', '.join(SUPPORTED)}"
        raise Refusal(INCOMPATIBLE_VERSION, "incompatible CNI versions", details)
    since = SINCE.get(command, SUPPORTED[0])
    if SUPPORTED.index(version) < SUPPORTED.index(since):
        raise Refusal(INCOMPATIBLE_VERSION, f"{command} needs cniVersion {since}", f"config is {version!r}")


def request_of(command: str, env: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, Any]:
    """The request in the agent's words."""
    return {
        "command": command,
        "containerID": env.get("CNI_CONTAINERID", ""),
        "netns": env.get("CNI_NETNS", ""),
        "ifname": env.get("CNI_IFNAME", ""),
        "args": parse_args(env.get("CNI_ARGS", "")),
        "labels": {},
        "config": dict(config),
    }


def parse_args(text: str) -> dict[str, str]:
    """`FOO=BAR;ABC=123` as the specification has it."""
    args = {}
    for pair in filter(None, text.split(";")):
        key, sign, value = pair.partition("=")
        if not sign:
            raise Refusal(INVALID_ENVIRONMENT, f"CNI_ARGS: {pair!r}, expected KEY=VALUE pairs with ';' between them")
        args[key] = value
    return args


def ask(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """One line there, one line back. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(ANSWER_S)
        sock.connect(path)
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as file:
            line = file.readline()
    try:
        answer = json.loads(line)
    except ValueError as err:
        raise OSError("the connection was closed without an answer") from err
    return answer if isinstance(answer, dict) else {}


def in_version(result: dict[str, Any], version: str) -> dict[str, Any]:
    """The result as the configuration's version has it: before 1.0.0 each address told its family."""
    result = {**result, "cniVersion": version}
    if version.startswith("0."):
        result["ips"] = [{"version": "6" if ":" in ip["address"] else "4", **ip} for ip in result.get("ips", [])]
    return result


def main() -> int:
    try:
        answer = run(os.environ, sys.stdin.read())
    except Refusal as refusal:
        error = {"cniVersion": SUPPORTED[-1], "code": refusal.code, "msg": str(refusal)}
        answer, code = error | ({"details": refusal.details} if refusal.details else {}), 1
    else:
        code = 0
    if answer is not None:
        json.dump(answer, sys.stdout)
        print(flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
