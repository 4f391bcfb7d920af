"""The body of a DELETE, and what kube-apiserver 1.36 says of one that cannot be read."""

from __future__ import annotations

import pytest

from apiserver import decode, deleteoptions
from apiserver.registry import REGISTRY
from kubarium.machinery.errors import BadRequest

JSON, YAML = "application/json", "application/yaml"
VERSION_KIND = "couldn't get version/kind; json parse error: "
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
)


@pytest.mark.parametrize(
    ("body", "media_type", "options"),
    [
        (b"{}", JSON, {}),
        (b'{"gracePeriodSeconds":0,"preconditions":{"uid":"u"}}', JSON,
         {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}),
        (b"kind: DeleteOptions\napiVersion: v1\npropagationPolicy: Orphan\n", YAML, {"propagationPolicy": "Orphan"}),
    ],
)  # fmt: skip
def test_options_are_read(body: bytes, media_type: str, options: dict[str, object]) -> None:
    found = deleteoptions.read(body, media_type)
    assert {key: value for key, value in found.items() if key not in ("kind", "apiVersion")} == options


@pytest.mark.parametrize(
    ("body", "media_type", "text"),
    [
        (b'{"a', JSON, VERSION_KIND + "unexpected end of JSON input"),
        (b"[1]", JSON, VERSION_KIND + f"json: cannot unmarshal array into Go value of type {decode.TYPE_META}"),
        (b'{"kind":"Foo","apiVersion":"v1"}', JSON,
         'no kind "Foo" is registered for version "v1" in scheme "pkg/runtime/scheme.go:111"'),
        (b'{"gracePeriodSeconds":"x"}', JSON,
         "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64"),
        (b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", JSON,
         VERSION_KIND + "invalid character '[' exceeded max depth"),
        (b"a: [", YAML, "yaml: line 1: did not find expected node content"),
        (BOMB.encode(), YAML, "yaml: document contains excessive aliasing"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_as_upstream_does(body: bytes, media_type: str, text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        deleteoptions.read(body, media_type)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ("a:\n  - b\n c: d", "yaml: line 2: did not find expected key"),
        ("a: 'x", "yaml: found unexpected end of stream"),
        ('a: "x\n', "yaml: line 2: found unexpected end of stream"),
        ("{a: b", "yaml: line 1: did not find expected ',' or '}'"),
        ("a: b\n\n\nc: [\n", "yaml: line 4: did not find expected node content"),
        ("a: |\n b\n  - c: d\ne", "yaml: line 5: could not find expected ':'"),
        ("- a\nb: c", "yaml: line 1: did not find expected '-' indicator"),
    ],
)
def test_lines_of_yaml_errors_are_counted_as_upstream_does(body: str, text: str) -> None:
    config_maps = next(resource for resource in REGISTRY if resource.plural == "configmaps")
    with pytest.raises(BadRequest) as refused:
        decode.decode(body.encode(), YAML, config_maps)
    assert f"(must be of type ConfigMap): {text} (" in str(refused.value)
