"""Build `messages.dat` from the fields as they go over the wire: `python -m apiserver.protobuf.build fields.txt`.

The file is compressed JSON: message -> field number -> [name in JSON, type]. Types are those of `fields.txt` and two of
our own: `json`, bytes that hold a JSON document, and `raw`, bytes that stay bytes. A field without a name is a struct
whose fields JSON shows among those of the struct that holds it.
Source: the Kubernetes API reference (names in JSON); the published field numbers of the API's messages.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

from apiserver.protobuf.table import DATA_FILE

Messages = dict[str, dict[str, list[str]]]

SCALARS = frozenset({"string", "bytes", "bool", "int32", "int64", "double", "json", "raw"})

# Structs that Go embeds: on the wire they are messages, in JSON their fields are their owner's.
EMBEDDED = frozenset(
    {
        ("deviceConfiguration", "resource.v1.DeviceConfiguration"),
        ("ephemeralContainerCommon", "core.v1.EphemeralContainerCommon"),
        ("handler", "core.v1.ProbeHandler"),
        ("ingressRuleValue", "networking.v1.IngressRuleValue"),
        ("localObjectReference", "core.v1.LocalObjectReference"),
        ("persistentVolumeSource", "core.v1.PersistentVolumeSource"),
        ("rule", "admissionregistration.v1.Rule"),
        ("ruleWithOperations", "admissionregistration.v1.RuleWithOperations"),
        ("volumeSource", "core.v1.VolumeSource"),
    }
)

# Names that JSON spells in another way; those of JSONSchemaProps that begin with x are in `json_name`.
RENAMED = {
    ("admissionregistration.v1.MutatingWebhookConfiguration", "Webhooks"): "webhooks",
    ("admissionregistration.v1.ValidatingWebhookConfiguration", "Webhooks"): "webhooks",
    ("admissionregistration.v1.Validation", "Expression"): "expression",
    ("admissionregistration.v1.Variable", "Expression"): "expression",
    ("admissionregistration.v1.Variable", "Name"): "name",
    ("apiextensions.v1.JSONSchemaProps", "ref"): "$ref",
    ("apiextensions.v1.JSONSchemaProps", "schema"): "$schema",
    ("authentication.v1.BoundObjectReference", "uID"): "uid",
    ("networking.v1.IngressClassParametersReference", "aPIGroup"): "apiGroup",
}

RETYPED = {
    ("apiextensions.v1.JSON", "raw"): "json",
    ("meta.v1.FieldsV1", "Raw"): "json",
    ("pkg.runtime.RawExtension", "raw"): "json",
    ("pkg.runtime.Unknown", "raw"): "raw",
}


def json_name(message: str, name: str, type_: str) -> str:
    """What JSON calls a field; "" where the field is an embedded struct."""
    if (name, type_) in EMBEDDED:
        return ""
    if message == "apiextensions.v1.JSONSchemaProps" and name.startswith("xKubernetes"):
        return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
    return RENAMED.get((message, name), name)


def read_fields(text: str) -> Messages:
    """`core.v1.ConfigMap: 1 metadata meta.v1.ObjectMeta, 2 data {}string`. Raises ValueError at other lines."""
    messages: Messages = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        message, _, rest = line.partition(":")
        fields = messages[message] = {}
        for field in filter(None, rest.strip().split(", ")):
            number, name, type_ = field.split(" ")
            fields[str(int(number))] = [json_name(message, name, type_), RETYPED.get((message, name), type_)]
    return messages


def check(messages: Messages) -> None:
    """Raises ValueError where a field has a type that there is not."""
    for message, fields in messages.items():
        for name, type_ in fields.values():
            if type_.removeprefix("[]").removeprefix("{}") not in messages.keys() | SCALARS:
                raise ValueError(f"{message}.{name}: no message {type_}; expected one of this file, or a scalar")


def pack(messages: Messages) -> bytes:
    return zlib.compress(json.dumps(messages, sort_keys=True, separators=(",", ":")).encode(), 9)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m apiserver.protobuf.build FILE")
    messages = read_fields(Path(sys.argv[1]).read_text())
    check(messages)
    Path(__file__).with_name(DATA_FILE).write_bytes(pack(messages))


if __name__ == "__main__":
    main()
