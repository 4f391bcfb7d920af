"""Requests with the answers that kube-apiserver 1.36 gave to them, replayed against a server of ours and compared.

A file of `recorded/` maps the name of a case to its steps, `{"request": {"method", "path", "body"?, "contentType"?,
"accept"?}, "answer": {"code", "type", "body", "warning"?}}`. Each case runs in a namespace of its own, written NS. What
differs from run to run (uid, resourceVersion, times, allocated addresses and ports) is replaced by words on both sides.
A step `{"sleep": 1}` gave controllers time; here the GET behind it is repeated until its answer is as recorded.
"""

from __future__ import annotations

import json
import re
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubarium.testing.apiserver import ApiServer

Json = Any
FOLDER = Path(__file__).with_name("recorded")

PATIENCE_S = 5.0

_WORDS = {
    "uid": "UID",
    "resourceVersion": "RV",
    "creationTimestamp": "TIME",
    "deletionTimestamp": "TIME",
    "lastProbeTime": "TIME",
    "lastTransitionTime": "TIME",
    "startTime": "TIME",
    "time": "TIME",
    "buildDate": "VERSION",
    "compiler": "VERSION",
    "gitCommit": "VERSION",
    "gitVersion": "VERSION",
    "goVersion": "VERSION",
    "continue": "CONTINUE",
    "storageVersionHash": "HASH",
}
_TEXTS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UID"),
    (re.compile(r"(ResourceVersion in record \(|current: )\d+"), r"\1RV"),
    (re.compile(r"Bad_[a-z0-9]{5}"), "Bad_XXXXX"),
    (re.compile(r"192\.0\.2\.2:\d+"), "192.0.2.2:PORT"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
)
_AGE = re.compile(r"^(\d+[smhdy])+$|^\d+ms$")


def cases() -> Iterator[tuple[str, list[Json]]]:
    """Name (`FILE:area/what`) and steps of every recorded case."""
    for path in sorted(FOLDER.glob("*.json")):
        for name, steps in json.loads(path.read_text()).items():
            yield f"{path.stem}:{name}", steps


def replay(server: ApiServer, steps: list[Json]) -> list[str]:
    """What differs from the recorded answers, as lines; the case gets a namespace of its own."""
    namespace = f"r{secrets.token_hex(5)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    server.post("/api/v1/namespaces", body)
    try:
        found = []
        for number, step in enumerate(steps):
            if "request" in step:
                patient = number > 0 and "sleep" in steps[number - 1] and step["request"]["method"] == "GET"
                found += compared(server, step, namespace, f"#{number}", PATIENCE_S if patient else 0.0)
        return found
    finally:
        server.delete(f"/api/v1/namespaces/{namespace}")


def compared(server: ApiServer, step: Json, namespace: str, where: str, patience_s: float) -> list[str]:
    """What differs from the recorded answer, at last, if it may take a while until it comes."""
    wanted, end = worded(step["answer"], "NS"), time.monotonic() + patience_s
    while True:
        found = differences(wanted, send(server, step["request"], namespace), where)
        if not found or time.monotonic() >= end:
            return found
        time.sleep(0.02)


def send(server: ApiServer, request: Json, namespace: str) -> Json:
    """The answer in the form of a recording, with words for what varies."""
    body = request.get("body")
    text = None if body is None else body if isinstance(body, str) else json.dumps(body)
    headers = {"Authorization": f"Bearer {server.token}", "Accept": request.get("accept", "application/json")}
    if text is not None:
        headers["Content-Type"] = request.get("contentType", "application/json")
    data = None if text is None else text.replace("NS", namespace).encode()
    url = server.url + request["path"].replace("NS", namespace)
    call = urllib.request.Request(url, data, method=request["method"], headers=headers)
    try:
        with urllib.request.urlopen(call, context=server.tls, timeout=20) as reply:
            code, head, raw = reply.status, reply.headers, reply.read().decode()
    except urllib.error.HTTPError as err:
        with err:
            code, head, raw = err.code, err.headers, err.read().decode()
    media_type = (head.get("Content-Type") or "").split(";")[0]
    answer = {"code": code, "type": media_type, "body": worded(parsed(raw), namespace)}
    if warnings := head.get_all("Warning"):
        answer["warning"] = [warning.replace(namespace, "NS") for warning in warnings]
    return answer


def parsed(text: str) -> Json:
    """A document, the documents of a watch, or the text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        lines = text.splitlines()
    try:
        return [json.loads(line) for line in lines] if len(lines) > 1 else text
    except ValueError:
        return text


def worded(value: Json, namespace: str, parent: str = "") -> Json:
    """`value` with words in place of what varies, and without the token volumes that admission adds to pods."""
    if isinstance(value, dict):
        kept = ((key, _kept(key, item)) for key, item in value.items())
        return {key: _word(key, item, namespace) for key, item in kept if item is not None or value[key] is None}
    if isinstance(value, list):
        return [worded(item, namespace, parent) for item in value]
    if isinstance(value, str):
        text = value.replace(namespace, "NS")
        for pattern, word in _TEXTS:
            text = pattern.sub(word, text)
        return _AGE.sub("AGE", text) if parent == "cells" else text
    return value


def _kept(key: str, item: Json) -> Json:
    """None for what the ServiceAccount plugin has added."""
    if key in ("volumes", "volumeMounts") and isinstance(item, list):
        return [part for part in item if not str(part.get("name", "")).startswith("kube-api-access-")] or None
    return None if key in ("serviceAccount", "serviceAccountName") and item == "default" else item


def _owner(entry: Json) -> tuple[str, ...]:
    return tuple(entry.get(key, "") for key in ("manager", "operation", "subresource", "apiVersion"))


def _word(key: str, item: Json, namespace: str) -> Json:
    if key in _WORDS and isinstance(item, str) and (item or _WORDS[key] == "VERSION"):
        return _WORDS[key]
    if key == "managedFields" and isinstance(item, list):  # in the order of their times, which differ
        return worded(sorted(item, key=_owner), namespace, key)
    if key == "clusterIP" and isinstance(item, str) and item.startswith("10."):
        return "IP"
    if key == "clusterIPs" and isinstance(item, list):
        return ["IP" if str(address).startswith("10.") else address for address in item]
    if key in ("nodePort", "healthCheckNodePort") and isinstance(item, int):
        return "PORT"
    return worded(item, namespace, key)


def differences(want: Json, got: Json, path: str) -> list[str]:
    """Lines such as `#0.body.spec.x: 1 != 2`. managedFields that a recording has emptied are not compared."""
    if type(want) is not type(got):
        return [f"{path}: {_short(want)} != {_short(got)}"]
    if isinstance(want, dict):
        return [line for key in sorted(want.keys() | got.keys()) for line in _member(want, got, key, path)]
    if isinstance(want, list):
        if len(want) != len(got):
            return [f"{path}: {len(want)} items != {len(got)}: {_short(want)} != {_short(got)}"]
        pairs = enumerate(zip(want, got, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{path}[{i}]")]
    return [] if want == got else [f"{path}: {_short(want)} != {_short(got)}"]


def _member(want: Json, got: Json, key: str, path: str) -> list[str]:
    if key not in got:
        return [f"{path}.{key}: missing, expected {_short(want[key])}"]
    if key not in want:
        return [f"{path}.{key}: not expected: {_short(got[key])}"]
    if key == "managedFields" and not want[key]:
        return []
    return differences(want[key], got[key], f"{path}.{key}")


def _short(value: Json) -> str:
    return json.dumps(value)[:200]
