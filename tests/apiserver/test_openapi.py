"""The OpenAPI documents hold together, and say what kubectl looks for; the data file is what the build makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apiserver import openapi, schemas
from apiserver.registry import REGISTRY
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


@pytest.mark.parametrize("path", ["", *openapi.paths_v3(REGISTRY)])
def test_every_reference_leads_somewhere(path: str) -> None:
    document = openapi.document_v3(REGISTRY, path) if path else openapi.document_v2(REGISTRY)
    assert document is not None
    for reference in set(references(document)):
        assert lookup(document, reference)


@pytest.mark.parametrize("resource", REGISTRY.all(), ids=lambda r: f"{r.plural}.{r.group}")
def test_patch_of_every_kind_knows_field_validation(resource: Any) -> None:
    """What kubectl apply looks for: the PATCH of the kind, and its query parameter."""
    wanted = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    document = openapi.document_v3(REGISTRY, openapi.group_version_path(resource.group, resource.version))
    assert document is not None
    patches = [item["patch"] for item in document["paths"].values() if "patch" in item]
    (own, *_) = [p for p in patches if p["x-kubernetes-group-version-kind"] == wanted]
    assert "fieldValidation" in {p["name"] for p in own["parameters"]}
    assert "application/strategic-merge-patch+json" in own["requestBody"]["content"]


def test_index_and_unknown_documents() -> None:
    hashes = dict.fromkeys(openapi.paths_v3(REGISTRY), "ABC")
    index = openapi.index_v3(REGISTRY, hashes)
    assert index["paths"]["apis/apps/v1"] == {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=ABC"}
    assert openapi.document_v3(REGISTRY, "apis/fruit.example.com/v1") is None


def test_an_etag_is_of_the_bytes() -> None:
    assert openapi.etag(b"a") == openapi.etag(b"a") != openapi.etag(b"b")


def test_explain_finds_descriptions_and_merge_keys() -> None:
    document = openapi.document_v3(REGISTRY, "api/v1")
    assert document is not None
    spec = document["components"]["schemas"]["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert spec["x-kubernetes-patch-merge-key"] == "port"
    assert spec["x-kubernetes-list-map-keys"] == ["port", "protocol"]
    assert spec["description"].startswith("The list of ports")
    port = document["components"]["schemas"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert port["oneOf"] == [{"type": "integer"}, {"type": "string"}]


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
