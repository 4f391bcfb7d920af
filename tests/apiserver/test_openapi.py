"""The OpenAPI documents hold together, and say what kubectl looks for; the data file is what the build makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from apiserver import openapi, openapi_protobuf, schemas
from apiserver.custom import kinds
from apiserver.openapi_paths import group_version_path
from apiserver.protobuf import wire
from apiserver.registry import REGISTRY
from apiserver.registry.base import ResourceDef
from apiserver.schemas import build, shape

Json = dict[str, Any]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def lookup(document: Json, reference: str) -> Any:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def definition() -> Json:
    """Of a custom kind, with what the two versions of OpenAPI say in different ways."""
    spec = {
        "type": "object",
        "properties": {
            "replicas": {"type": "integer", "default": 1},
            "port": {"x-kubernetes-int-or-string": True},
            "note": {"type": "string", "nullable": True},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "one": {"type": "object", "oneOf": [{"required": ["a"]}], "properties": {"a": {"type": "string"}}},
        },
    }
    schema = {"type": "object", "description": "A crontab.", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList"}
    status = {"acceptedNames": names, "conditions": [{"type": "Established", "status": "True"}]}
    return {
        "metadata": {"name": "crontabs.stable.example.com", "uid": "u"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": names, "versions": [version]},
        "status": status,
    }


CUSTOM = kinds.resources(definition())
PARTS = {
    group_version_path(group, version): tuple(r for r in REGISTRY if (r.group, r.version) == (group, version))
    for group, versions in REGISTRY.groups().items()
    for version in versions
} | {"apis/stable.example.com/v1": CUSTOM}


@pytest.mark.parametrize("resources", [(*REGISTRY, *CUSTOM), *PARTS.values()], ids=["v2", *PARTS])
def test_every_reference_leads_somewhere(resources: tuple[ResourceDef, ...]) -> None:
    document = openapi.document_v2(resources) if len(resources) > 50 else openapi.document_v3(resources)
    for reference in set(references(document)):
        assert lookup(document, reference)


@pytest.mark.parametrize("resource", [r for r in REGISTRY if "patch" in r.verbs], ids=lambda r: f"{r.plural}.{r.group}")
def test_patch_of_every_kind_knows_field_validation(resource: ResourceDef) -> None:
    """What kubectl apply looks for: the PATCH of the kind, and its query parameter."""
    wanted = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    document = openapi.document_v3([resource])
    patches = [item["patch"] for item in document["paths"].values() if "patch" in item]
    own = next(p for p in patches if p["x-kubernetes-group-version-kind"] == wanted)
    assert "fieldValidation" in {p["name"] for p in own["parameters"]}
    assert "application/strategic-merge-patch+json" in own["requestBody"]["content"]


@pytest.mark.parametrize(
    ("path", "method", "name"),
    [
        ("/apis/apps/v1/namespaces/{namespace}/deployments", "get", "listAppsV1NamespacedDeployment"),
        ("/apis/apps/v1/deployments", "get", "listAppsV1DeploymentForAllNamespaces"),
        ("/apis/apps/v1/namespaces/{namespace}/deployments", "delete", "deleteAppsV1CollectionNamespacedDeployment"),
        ("/api/v1/nodes/{name}/status", "put", "replaceCoreV1NodeStatus"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/exec", "post", "connectCoreV1PostNamespacedPodExec"),
        (
            "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/{name}",
            "patch",
            "patchFlowcontrolApiserverV1FlowSchema",
        ),
        ("/apis/stable.example.com/v1/crontabs", "get", "listStableExampleComV1CronTabForAllNamespaces"),
    ],
)
def test_operations_have_the_names_that_clients_are_generated_from(path: str, method: str, name: str) -> None:
    assert openapi.document_v2((*REGISTRY, *CUSTOM))["paths"][path][method]["operationId"] == name


def test_explain_finds_descriptions_merge_keys_and_values() -> None:
    types = openapi.document_v3(PARTS["api/v1"])["components"]["schemas"]
    ports = types["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert ports["x-kubernetes-patch-merge-key"] == "port"
    assert ports["x-kubernetes-list-map-keys"] == ["port", "protocol"]
    assert ports["description"].startswith("The list of ports")
    assert types["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["oneOf"] == [
        {"type": "integer"},
        {"type": "string"},
    ]
    assert types["io.k8s.api.core.v1.PodSpec"]["properties"]["restartPolicy"]["enum"] == [
        "Always",
        "Never",
        "OnFailure",
    ]


def test_a_custom_kind_has_its_schema_with_metadata() -> None:
    v3 = openapi.document_v3(CUSTOM)["components"]["schemas"]["com.example.stable.v1.CronTab"]
    v2 = openapi.document_v2(CUSTOM)["definitions"]["com.example.stable.v1.CronTab"]
    meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    assert v3["properties"]["metadata"]["allOf"] == [{"$ref": f"#/components/schemas/{meta}"}]
    assert v2["properties"]["metadata"]["$ref"] == f"#/definitions/{meta}"
    assert v3["properties"]["spec"]["properties"] == {
        "replicas": {"type": "integer", "default": 1},
        "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "note": {"type": "string", "nullable": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "one": {"type": "object", "oneOf": [{"required": ["a"]}], "properties": {"a": {"type": "string"}}},
    }
    assert v2["properties"]["spec"]["properties"] == {
        "replicas": {"type": "integer"},
        "port": {"x-kubernetes-int-or-string": True},
        "note": {},
        "free": {"x-kubernetes-preserve-unknown-fields": True},
        "one": {"type": "object", "properties": {"a": {"type": "string"}}},
    }


# --- protobuf


def fields(data: bytes) -> dict[int, list[Any]]:
    """Number -> values of a message; a reader of its own, which knows nothing of the table."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = wire.varint(data, at, len(data))
        match tag & 7:
            case 0:
                value, at = wire.varint(data, at, len(data))
            case 1:
                value, at = data[at : at + 8], at + 8
            case _:
                size, at = wire.varint(data, at, len(data))
                value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def named(data: bytes) -> dict[str, bytes]:
    """A message that maps names to messages."""
    pairs = (fields(pair) for pair in fields(data)[1])
    return {pair[1][0].decode(): pair.get(2, [b""])[0] for pair in pairs}


def test_version_2_as_protobuf() -> None:
    document = openapi.document_v2(REGISTRY.all())
    whole = fields(openapi_protobuf.version2(document))
    assert whole[1] == [b"2.0"]
    types = named(whole[9][0])
    assert types.keys() == document["definitions"].keys()
    spec = fields(types["io.k8s.api.apps.v1.DeploymentSpec"])
    assert {name.decode() for name in spec[19]} == {"selector", "template"}
    replicas = fields(named(spec[25][0])["replicas"])
    assert (fields(replicas[22][0])[1], replicas[2]) == ([b"integer"], [b"int32"])
    paths = [fields(path)[1][0].decode() for path in fields(whole[8][0])[2]]
    assert paths == list(document["paths"])


def test_version_3_as_protobuf() -> None:
    document = openapi.document_v3(PARTS["apis/apps/v1"])
    whole = fields(openapi_protobuf.version3(document))
    types = named(fields(whole[5][0])[1][0])
    assert types.keys() == document["components"]["schemas"].keys()
    deployment = fields(fields(types["io.k8s.api.apps.v1.Deployment"])[1][0])
    assert deployment[25] == [b"object"]
    metadata = fields(fields(named(deployment[31][0])["metadata"])[1][0])
    reference = fields(fields(metadata[26][0])[2][0])
    assert reference == {1: [b"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]}
    extensions = {fields(e)[1][0].decode(): fields(fields(e)[2][0])[2][0] for e in deployment[36]}
    assert orjson.loads(extensions["x-kubernetes-group-version-kind"])[0]["kind"] == "Deployment"


# --- the data


def test_the_data_file_is_what_the_build_makes() -> None:
    made = build.build(build.read_definitions())
    assert set(build.unpack(made)) == {"types", "documents"}
    assert build.unpack(made) == build.unpack(schemas._file()), "run `python -m apiserver.schemas.build`"


def test_every_type_can_be_made() -> None:
    for name in schemas.types()["structs"]:
        zero = shape.struct(name).convert({}, "", shape.Report())
        report = shape.Report()
        assert shape.struct(name).convert(zero, "", report) == zero
        assert not report.unknown
