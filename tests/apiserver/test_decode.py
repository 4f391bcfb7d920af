"""Request bodies: what is refused, in kube-apiserver's words, and what is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver import decode, gojson
from apiserver.schemas import shape
from kubarium.machinery.errors import ApiError, BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from tests.apiserver.objects import resource

Json = dict[str, Any]
CONFIGMAP = 'ConfigMap in version "v1" cannot be handled as a ConfigMap: '
POD = 'Pod in version "v1" cannot be handled as a Pod: '
NOT_KNOWN = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; "


def read(body: str | Json, path: str = "v1/configmaps", media: str = "application/json", mode: str = "Strict") -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return decode.decode(text.encode(), media, resource(path), field_validation=mode)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        pytest.param(
            "v1/configmaps",
            "{nope",
            NOT_KNOWN + "json parse error: invalid character 'n' looking for beginning of object key string ({nope)",
            id="no JSON",
        ),
        pytest.param(
            "v1/configmaps",
            "",
            NOT_KNOWN + "json parse error: unexpected end of JSON input (<empty>)",
            id="nothing",
        ),
        pytest.param(
            "v1/configmaps",
            '{"data":{"k":"1","k":"2"},"data":{}}',
            CONFIGMAP + 'strict decoding error: duplicate field "data.k", duplicate field "data"',
            id="duplicates",
        ),
        pytest.param(
            "v1/configmaps",
            {"Metadata": {"name": "a"}},
            CONFIGMAP + 'strict decoding error: unknown field "Metadata"',
            id="case matters",
        ),
        pytest.param(
            "v1/pods",
            {"spec": {"containers": [{"name": "a", "imag": "x"}], "replicas": 1}},
            POD + 'strict decoding error: unknown field "spec.containers[0].imag", unknown field "spec.replicas"',
            id="all that is unknown",
        ),
        pytest.param(
            "v1/pods",
            {"spec": {"containers": "c"}},
            POD + "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
            id="list",
        ),
        pytest.param(
            "v1/pods",
            {"spec": {"containers": [{"ports": [{"containerPort": 80.5}]}]}},
            POD + "json: cannot unmarshal number 80.5 into Go struct field "
            "ContainerPort.spec.containers.ports.containerPort of type int32",
            id="no integer",
        ),
        pytest.param(
            "v1/pods",
            {"spec": {"restartPolicy": True}},
            POD
            + "json: cannot unmarshal bool into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
            id="a scalar type with a name",
        ),
        pytest.param(
            "v1/configmaps",
            {"data": {"a": 1}},
            CONFIGMAP + "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            id="value in a map",
        ),
        pytest.param(
            "v1/pods",
            {"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}},
            POD + "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            id="quantity",
        ),
        pytest.param(
            "v1/pods",
            {"kind": "Service", "apiVersion": "v1"},
            'Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): '
            "unknown conversion",
            id="another kind",
        ),
        pytest.param(
            "apps/v1/deployments",
            {"kind": "Deployment", "apiVersion": "apps/v1beta9"},
            'Deployment in version "v1beta9" cannot be handled as a Deployment: no kind "Deployment" is registered '
            'for version "apps/v1beta9" in scheme "pkg/runtime/scheme.go:111"',
            id="a version that is none",
        ),
        pytest.param(
            "v1/secrets",
            {"data": {"a": "not base64!"}},
            'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 3',
            id="bytes",
        ),
    ],
)
def test_refusals(path: str, body: str | Json, message: str) -> None:
    with pytest.raises(BadRequest) as err:
        read(body, path)
    assert err.value.message == message


def test_field_validation_warns_or_is_silent() -> None:
    body = {"metadata": {"name": "a"}, "dta": {}}
    assert read(body, mode="Warn")[1] == read(body, mode="")[1] == ['unknown field "dta"']
    obj, warnings = read(body, mode="Ignore")
    assert (warnings, "dta" in obj) == ([], False)


def test_what_cannot_be_read_at_all() -> None:
    with pytest.raises(UnsupportedMediaType):
        read("x", media="text/plain")
    with pytest.raises(RequestEntityTooLarge):
        decode.decode(b" " * (decode.MAX_BODY_B + 1), "application/json", resource("v1/pods"))


def test_depth_has_a_limit() -> None:
    for text in ('{"data":' * 5000, '{"metadata":{"annotations":' + "[" * 500 + "]" * 500 + "}}"):
        with pytest.raises(BadRequest, match="exceeded max depth"):
            read(text)


def test_yaml_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(BadRequest, match="excessive aliasing"):
        read("\n".join(lines), media="application/yaml")
    with pytest.raises(BadRequest):
        read("[" * 3000, media="application/yaml")


def test_yaml_has_the_scalars_of_go() -> None:
    with pytest.raises(BadRequest, match=r"cannot unmarshal bool into Go struct field ObjectMeta\.metadata\.name"):
        read("metadata: {name: y}", media="application/yaml")
    value, duplicates = decode.read_yaml(b"a: 1:30\nb: 010\nc: 2026-01-01\nd: ~\ne: &x {f: 'on'}\ng: *x\na: 0x10\n")
    assert value == {"a": 16, "b": 8, "c": "2026-01-01", "d": None, "e": {"f": "on"}, "g": {"f": "on"}}
    assert duplicates == ['line 7: key "a" already set in map']


def test_written_form() -> None:
    """Empty optional fields go, explicit zeros behind pointers stay, fields that are always written appear."""
    obj, _ = read(
        {
            "metadata": {"name": "d", "labels": {}, "creationTimestamp": None},
            "spec": {"replicas": 0, "paused": False, "minReadySeconds": 0, "selector": None},
            "status": {"conditions": [{"type": "T", "status": "True"}]},
        },
        "apps/v1/deployments",
    )
    assert obj == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 0,
            "selector": None,
            "strategy": {},
            "template": {"metadata": {}, "spec": {"containers": None}},
        },
        "status": {"conditions": [{"type": "T", "status": "True", "lastTransitionTime": None, "lastUpdateTime": None}]},
    }


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00Z"),
    ],
)
def test_times(text: str, written: str) -> None:
    report = shape.Report()
    found = shape.struct("core.v1.PodCondition").convert({"lastProbeTime": text}, "", report)
    assert (found["lastProbeTime"], report.error) == (written, "")


def test_micro_times_have_six_digits() -> None:
    report = shape.Report()
    lease = shape.struct("coordination.v1.LeaseSpec")
    assert lease.convert({"renewTime": "2026-01-01T00:00:00.000000Z"}, "", report) == {
        "renewTime": "2026-01-01T00:00:00.000000Z"
    }
    assert not report.error
    lease.convert({"renewTime": "2026-01-01T00:00:00Z"}, "", report)
    assert (
        report.error
        == 'parsing time "2026-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000"'
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("tru", "unexpected end of JSON input"),
        ("trux", "invalid character 'x' in literal true (expecting 'e')"),
        ("{} x", "invalid character 'x' after top-level value"),
        ('"\\q"', "invalid character 'q' in string escape code"),
        ("-a", "invalid character 'a' in numeric literal"),
    ],
)
def test_syntax_errors_are_those_of_go(text: str, fault: str) -> None:
    assert gojson.syntax_error(text) == fault


@given(st.text(alphabet='{}[]":,0123456789.eE+-truefalsn\\ \n', max_size=30))
def test_the_scanner_agrees_with_a_json_parser(text: str) -> None:
    def constant(name: str) -> Any:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=constant)
        valid = True
    except ValueError:
        valid = False
    assert (gojson.syntax_error(text) == "") == valid


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
FIELDS = ("metadata", "spec", "status", "containers", "name", "labels", "ports", "resources", "limits", "conditions")
objects = st.recursive(
    values, lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner | st.lists(inner, max_size=2)), max_leaves=20
)


@given(objects)
def test_no_body_does_more_harm_than_a_refusal(value: Any) -> None:
    try:
        obj, _ = decode.typed(value, resource("v1/pods"))
    except ApiError:
        return
    again, warnings = decode.typed(obj, resource("v1/pods"), field_validation="Strict")
    assert (again, warnings) == (obj, [])


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        pytest.param(
            "networking.v1.Ingress",
            {"spec": {"rules": [{"http": {"paths": "x"}}]}},
            "json: cannot unmarshal string into Go struct field "
            "HTTPIngressRuleValue.spec.rules.IngressRuleValue.http.paths of type []v1.HTTPIngressPath",
            id="through an embedded struct",
        ),
        pytest.param(
            "core.v1.PersistentVolumeClaim",
            {"spec": {"accessModes": [5]}},
            "json: cannot unmarshal number into Go struct field PersistentVolumeClaimSpec.spec.accessModes "
            "of type v1.PersistentVolumeAccessMode",
            id="an item with a type of its own",
        ),
        pytest.param(
            "core.v1.Pod",
            {"spec": {"overhead": 5}},
            "json: cannot unmarshal number into Go struct field PodSpec.spec.overhead of type v1.ResourceList",
            id="a map with a type of its own",
        ),
    ],
)
def test_type_errors_name_types_as_go_does(kind: str, body: Any, message: str) -> None:
    report = shape.Report()
    shape.struct(kind).convert(body, "", report)
    assert report.error == message


def test_unknown_fields_are_told_with_the_keys_of_maps() -> None:
    report = shape.Report()
    body = {"spec": {"devices": [{"capacity": {"a.b/memory": {"value": "1Gi", "x": 1}}}]}}
    shape.struct("resource.v1.ResourceSlice").convert(body, "", report)
    assert report.unknown == ["spec.devices[0].capacity.a.b/memory.x"]


def test_repeated_keys_of_yaml_are_told_by_their_lines() -> None:
    body = b"kind: ConfigMap\ndata:\n  a: s\n  a: t\nnone: 1\n"
    with pytest.raises(BadRequest) as err:
        decode.decode(body, "application/yaml", resource("v1/configmaps"), field_validation="Strict")
    text = 'strict decoding error: yaml: unmarshal errors:\n  line 4: key "a" already set in map, unknown field "none"'
    assert err.value.message.endswith(text)
    _, warnings = decode.decode(body, "application/yaml", resource("v1/configmaps"), field_validation="Warn")
    assert warnings == ['line 4: key "a" already set in map', 'unknown field "none"']
