"""Bodies in protobuf: bytes made by hand, round trips over all messages, and bytes that are none of it."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apiserver import protobuf, schemas
from apiserver.decode import decode
from apiserver.protobuf import build, table
from apiserver.protobuf.reader import MAX_DEPTH, MAX_VALUES
from apiserver.protobuf.special import SPECIAL
from apiserver.protobuf.table import Field
from apiserver.registry import REGISTRY
from apiserver.registry.base import ResourceDef
from kubarium.machinery.errors import ApiError, BadRequest, UnsupportedMediaType
from kubarium.testing.apiserver import ApiServer

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
UNKNOWN_FIELD = 500
VARINT, FIXED64, LEN = 0, 1, 2


def resource(plural: str) -> ResourceDef:
    return next(found for found in REGISTRY.all() if found.plural == plural)


# --- an encoder: from the JSON form to bytes


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def chunk(number: int, content: bytes | str) -> bytes:
    """A record of bytes: text, bytes, a message."""
    content = content.encode() if isinstance(content, str) else content
    return tag(number, LEN) + varint(len(content)) + content


def number(number: int, value: int) -> bytes:
    return tag(number, VARINT) + varint(value)


def encode(message: str, obj: dict[str, Any]) -> bytes:
    """What the JSON form `obj` of a message is on the wire."""
    return b"".join(_field(field, n, obj) for n, field in table.fields(message).items())


def _field(field: Field, n: int, obj: dict[str, Any]) -> bytes:
    if not field.name:
        return chunk(n, encode(field.type, obj))
    if field.name not in obj:
        return b""
    value = obj[field.name]
    if field.repeated:
        return b"".join(_value(field.type, n, item) for item in value)
    if field.mapped:
        return b"".join(chunk(n, chunk(1, key) + _value(field.type, 2, item)) for key, item in value.items())
    return _value(field.type, n, value)


def _value(type_: str, n: int, value: Any) -> bytes:
    if type_ in ("int32", "int64", "bool"):
        return number(n, int(value))
    if type_ == "double":
        return tag(n, FIXED64) + struct.pack("<d", value)
    if type_ == "string":
        return chunk(n, value)
    if type_ == "bytes":
        return chunk(n, base64.b64decode(value))
    return chunk(n, _special(type_, value) if type_ in SPECIAL else encode(type_, value))


def _special(type_: str, value: Any) -> bytes:
    name, schema = type_.rpartition(".")[2], "apiextensions.v1.JSONSchemaProps"
    if name in ("Time", "MicroTime"):
        moment = datetime.fromisoformat(value)
        return number(1, int(moment.timestamp() // 1)) + number(2, moment.microsecond * 1000)
    if name == "IntOrString":
        return number(1, 1) + chunk(3, value) if isinstance(value, str) else number(1, 0) + number(2, value)
    if name in ("ExtraValue", "Verbs"):
        return b"".join(chunk(1, item) for item in value)
    if name == "JSONSchemaPropsOrArray":
        return (
            b"".join(chunk(2, encode(schema, one)) for one in value) if isinstance(value, list) else _schema(1, value)
        )
    if name == "JSONSchemaPropsOrBool":
        return number(1, value) if isinstance(value, bool) else number(1, 1) + _schema(2, value)
    if name == "JSONSchemaPropsOrStringArray":
        return b"".join(chunk(2, one) for one in value) if isinstance(value, list) else _schema(1, value)
    return chunk(1, value if name == "Quantity" else orjson.dumps(value))


def _schema(n: int, value: dict[str, Any]) -> bytes:
    return chunk(n, encode("apiextensions.v1.JSONSchemaProps", value))


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + chunk(1, chunk(1, api_version) + chunk(2, kind)) + chunk(2, raw) + chunk(3, "") + chunk(4, "")


def core(kind: str, raw: bytes) -> bytes:
    return body("v1", kind, raw)


# --- bytes made by hand


META = chunk(1, chunk(1, "x"))
CONTAINER = chunk(1, "c") + chunk(2, "nginx")


def pod(spec: bytes) -> bytes:
    return core("Pod", META + chunk(2, spec))


@pytest.mark.parametrize(
    ("plural", "raw", "expected"),
    [
        pytest.param("configmaps", META + chunk(2, chunk(1, "a") + chunk(2, "b")), {"data": {"a": "b"}}, id="map"),
        pytest.param("configmaps", META + chunk(2, chunk(2, "b")), {"data": {"": "b"}}, id="map: key left out"),
        pytest.param("configmaps", META + chunk(2, chunk(1, "a")), {"data": {"a": ""}}, id="map: value left out"),
        pytest.param("configmaps", META + number(4, 0), {"immutable": False}, id="pointer to a zero"),
        pytest.param("configmaps", META + chunk(UNKNOWN_FIELD, "?") + number(501, 1), {}, id="unknown fields"),
        pytest.param(
            "configmaps", META + tag(99, 3) + number(1, 1) + tag(2, 3) + tag(2, 4) + tag(99, 4), {}, id="group"
        ),
        pytest.param("configmaps", chunk(1, chunk(3, "n")) + META, {}, id="a message in pieces"),
        pytest.param(
            "secrets", META + chunk(2, chunk(1, "k") + chunk(2, b"\x00\xff")), {"data": {"k": "AP8="}}, id="bytes"
        ),
        pytest.param("secrets", META + chunk(3, ""), {}, id="an empty string that is no pointer"),
        pytest.param("secrets", META + chunk(3, b"\xff"), {"type": "\ufffd"}, id="text that is not UTF-8"),
    ],
)
def test_fields(plural: str, raw: bytes, expected: dict[str, Any]) -> None:
    kind = resource(plural).kind
    found, warnings = decode(core(kind, raw), MEDIA_TYPE, resource(plural), field_validation="Strict")
    assert (found.pop("apiVersion"), found.pop("kind"), warnings) == ("v1", kind, [])
    assert found.pop("metadata")["name"] == "x"
    assert found == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(number(4, 0), {"terminationGracePeriodSeconds": 0}, id="int64 pointer"),
        pytest.param(number(4, -1), {"terminationGracePeriodSeconds": -1}, id="negative"),
        pytest.param(number(11, 0), {}, id="false that is no pointer"),
        pytest.param(
            chunk(14, number(4, 7) + number(4, 8)), {"securityContext": {"supplementalGroups": [7, 8]}}, id="list"
        ),
        pytest.param(
            chunk(14, chunk(4, varint(7) + varint(300))),
            {"securityContext": {"supplementalGroups": [7, 300]}},
            id="packed",
        ),
        pytest.param(
            chunk(1, chunk(1, "v") + chunk(2, chunk(2, b""))),
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            id="embedded",
        ),
        pytest.param(
            chunk(32, chunk(1, "cpu") + chunk(2, chunk(1, "500m"))), {"overhead": {"cpu": "500m"}}, id="quantity"
        ),
    ],
)
def test_fields_of_a_pod(spec: bytes, expected: dict[str, Any]) -> None:
    found, _ = decode(pod(chunk(2, CONTAINER) + spec), MEDIA_TYPE, resource("pods"))
    assert found["spec"].pop("containers") == [{"name": "c", "image": "nginx", "resources": {}}]
    assert found["spec"] == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(b"", None, id="none"),
        pytest.param(number(1, 0), "1970-01-01T00:00:00Z", id="epoch"),
        pytest.param(number(1, 1700000000) + number(2, 999_999_999), "2023-11-14T22:13:20Z", id="no fractions"),
        pytest.param(number(1, -62135596800), None, id="Go's zero"),
        pytest.param(number(1, -62135596799), "0001-01-01T00:00:01Z", id="first second"),
    ],
)
def test_time(message: bytes, expected: str | None) -> None:
    found = protobuf.message("meta.v1.ObjectMeta", chunk(8, message))
    assert found.get("creationTimestamp") == expected


def test_micro_time_keeps_microseconds() -> None:
    found = protobuf.message("coordination.v1.LeaseSpec", chunk(4, number(1, 1) + number(2, 1999)))
    assert found == {"renewTime": "1970-01-01T00:00:01.000001Z"}


def test_target_port_is_a_number_or_a_name() -> None:
    ports = chunk(1, chunk(4, number(1, 1) + chunk(3, "http"))) + chunk(1, chunk(4, number(1, 0) + number(2, 80)))
    found = protobuf.message("core.v1.ServiceSpec", ports)
    assert [port["targetPort"] for port in found["ports"]] == ["http", 80]


@pytest.mark.parametrize(
    ("number_", "content", "expected"),
    [
        pytest.param(8, chunk(1, b'{"a": [1]}'), {"default": {"a": [1]}}, id="JSON"),
        pytest.param(33, number(1, 0), {"additionalItems": False}, id="false"),
        pytest.param(33, chunk(2, chunk(5, "string")), {"additionalItems": {"type": "string"}}, id="schema or bool"),
        pytest.param(3, "#/x", {"$ref": "#/x"}, id="$ref"),
    ],
)
def test_schemas_of_custom_resources(number_: int, content: bytes, expected: dict[str, Any]) -> None:
    assert protobuf.message("apiextensions.v1.JSONSchemaProps", chunk(number_, content)) == expected


# --- bodies that are refused


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        pytest.param(b"", "(must be of type ConfigMap): empty data (<empty>)", id="empty"),
        pytest.param(b"k8s\x00", "empty body (6b387300)", id="magic only"),
        pytest.param(b"{}", "does not appear to be a protobuf message, expected prefix [107 56 115 0] ({})", id="JSON"),
        pytest.param(b"k8s\x00\x0a\x05", "unexpected EOF (6b3873000a05)", id="envelope cut off"),
        pytest.param(core("Pod", b""), 'Pod in version "v1" cannot be handled as a ConfigMap: converting', id="kind"),
        pytest.param(core("ConfigMap", META[:-1]), "cannot be handled as a ConfigMap: unexpected EOF", id="cut off"),
        pytest.param(core("ConfigMap", b"\x80" * 11), "proto: integer overflow", id="number too long"),
        pytest.param(core("ConfigMap", number(1, 1)), "proto: wrong wireType = 0 for field metadata", id="wire type"),
        pytest.param(
            core("ConfigMap", tag(1, 3) + tag(1, 4)), "proto: wrong wireType = 3 for field metadata", id="a group"
        ),
        pytest.param(core("ConfigMap", b"\x00\x00"), "proto: ConfigMap: illegal tag 0 (wire type 0)", id="field 0"),
        pytest.param(core("ConfigMap", tag(9, 7)), "proto: illegal wireType 7", id="wire type 7"),
        pytest.param(
            core("ConfigMap", tag(9, 4)), "proto: ConfigMap: wiretype end group for non-group", id="group's end"
        ),
        pytest.param(core("ConfigMap", tag(9, 3)), "unexpected EOF", id="group without end"),
        pytest.param(core("ConfigMap", tag(1, 2) + varint(-1)), "proto: negative length found", id="negative length"),
        pytest.param(
            core("ConfigMap", chunk(2, b"") * (MAX_VALUES + 1)), "too many values: limit is 500000", id="many"
        ),
        pytest.param(
            core("ConfigMap", chunk(1, chunk(8, number(1, 1 << 60)))), "between the years 1 and 9999", id="time"
        ),
        pytest.param(
            core("ConfigMap", chunk(1, chunk(17, chunk(7, chunk(1, "{"))))), "expected a JSON document", id="JSON in it"
        ),
    ],
)
def test_refused(sent: bytes, text: str) -> None:
    with pytest.raises(BadRequest) as err:
        decode(sent, MEDIA_TYPE, resource("configmaps"))
    assert text in str(err.value)


def nested(levels: int) -> bytes:
    """A schema in a schema ..., two levels of JSON each: the schema and the list it stands in."""
    found = b""
    for _ in range(levels):
        found = chunk(25, found)
    return found


def test_depth_is_limited() -> None:
    assert table.fields("apiextensions.v1.JSONSchemaProps")[25] == Field(
        "allOf", "apiextensions.v1.JSONSchemaProps", repeated=True
    )
    assert protobuf.message("apiextensions.v1.JSONSchemaProps", nested(MAX_DEPTH // 2 - 1))
    with pytest.raises(protobuf.Malformed, match="exceeded max depth"):
        protobuf.message("apiextensions.v1.JSONSchemaProps", nested(MAX_DEPTH // 2))


def test_depth_of_a_document_in_a_message_counts() -> None:
    document = b"[" * 199 + b"]" * 199
    assert protobuf.message("pkg.runtime.RawExtension", chunk(1, document))
    with pytest.raises(protobuf.Malformed, match="exceeded max depth"):
        protobuf.message("apps.v1.ControllerRevision", chunk(2, chunk(1, document)))


def test_a_kind_without_a_table_needs_json() -> None:
    widgets = ResourceDef("example.com", "v1", "Widget", "widgets", "widget")
    with pytest.raises(UnsupportedMediaType, match=r"include: application/json, application/yaml$"):
        decode(body("example.com/v1", "Widget", b""), MEDIA_TYPE, widgets)


# --- all messages


def test_the_table_is_built_from_the_fields() -> None:
    text = Path(build.__file__).with_name("fields.txt").read_text()
    messages = build.read_fields(text)
    build.check(messages)
    assert messages == table.messages(), "run `python -m apiserver.protobuf.build apiserver/protobuf/fields.txt`"


def served() -> Iterator[tuple[str, str]]:
    """(type, field) of all that the API server can store; apiVersion and kind of whole objects stand elsewhere."""
    whole = set(schemas.types()["kinds"].values())
    for name, found in schemas.types()["structs"].items():
        yield from ((name, field) for field in found if not (name in whole and field in ("apiVersion", "kind")))


def names_of(message: str) -> set[str]:
    found: set[str] = set()
    for field in table.fields(message).values():
        found |= {field.name} if field.name else names_of(field.type)
    return found


def test_every_field_of_a_served_type_can_come_as_protobuf() -> None:
    assert [f"{name}.{field}" for name, field in served() if field not in names_of(name)] == []


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
DOCUMENTS = st.recursive(
    st.booleans() | st.integers(-(1 << 31), 1 << 31) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "bytes": st.binary(max_size=8).map(lambda data: base64.b64encode(data).decode()),
    "bool": st.booleans(),
    "int32": INT32,
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
}
OWN_FORM: dict[str, st.SearchStrategy[Any]] = {
    "Time": MOMENTS.map(lambda moment: moment.replace(microsecond=0).isoformat() + "Z"),
    "MicroTime": MOMENTS.map(lambda moment: moment.isoformat(timespec="microseconds") + "Z"),
    "Quantity": st.from_regex(r"[1-9][0-9]{0,4}(m|Ki|G)?", fullmatch=True),
    "IntOrString": INT32 | TEXTS,
    "ExtraValue": st.lists(TEXTS, max_size=3),
    "Verbs": st.lists(TEXTS, max_size=3),
    "JSON": DOCUMENTS,
    "FieldsV1": DOCUMENTS,
    "RawExtension": DOCUMENTS,
}
MESSAGES = sorted(table.messages().keys() - SPECIAL.keys() - {"pkg.runtime.Unknown"})


def objects(message: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """The JSON form of messages, without fields that are messages where `depth` is used up."""
    known: dict[str, st.SearchStrategy[Any]] = {}
    for field in table.fields(message).values():
        if not field.name:
            known |= {inner.name: st.deferred(_later(inner, depth)) for inner in _spread(field.type)}
        elif depth or field.type in SCALARS:
            known[field.name] = st.deferred(_later(field, depth))
    if not known:
        return st.just({})
    chosen = st.sets(st.sampled_from(sorted(known)), max_size=6)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: known[name] for name in sorted(names)}))


def _spread(message: str) -> Iterator[Field]:
    for field in table.fields(message).values():
        if field.name:
            yield field
        else:
            yield from _spread(field.type)


def _later(field: Field, depth: int) -> Any:
    return lambda: values(field, max(depth - 1, 0))


def values(field: Field, depth: int) -> st.SearchStrategy[Any]:
    one = value(field.type, depth)
    if field.repeated:
        return st.lists(one, min_size=1, max_size=3)
    return st.dictionaries(TEXTS, one, min_size=1, max_size=3) if field.mapped else one


def value(type_: str, depth: int) -> st.SearchStrategy[Any]:
    name = type_.rpartition(".")[2]
    if type_ in SCALARS:
        return SCALARS[type_]
    if type_ not in SPECIAL:
        return objects(type_, depth)
    if name in OWN_FORM:
        return OWN_FORM[name]
    schema = objects("apiextensions.v1.JSONSchemaProps", depth)
    other = {"Array": st.lists(schema, min_size=1, max_size=2), "Bool": st.booleans()}
    return schema | other.get(name.partition("Or")[2], st.lists(TEXTS, min_size=1, max_size=2))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_is_encoded_comes_back(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from(MESSAGES))
    obj = data.draw(objects(message, 3))
    assert protobuf.message(message, encode(message, obj)) == obj


@pytest.mark.parametrize("plural", ["pods", "services", "deployments", "configmaps", "secrets", "leases", "ingresses"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_protobuf_gives_what_json_gives(plural: str, data: st.DataObject) -> None:
    found = resource(plural)
    message = schemas.type_name(found.group, found.version, found.kind)
    assert message is not None
    obj = data.draw(objects(message, 3))
    sent = body(found.api_version, found.kind, encode(message, obj))
    as_json = json.dumps(obj | {"apiVersion": found.api_version, "kind": found.kind}).encode()
    assert outcome(sent, MEDIA_TYPE, found) == outcome(as_json, "application/json", found)


def outcome(sent: bytes, media_type: str, found: ResourceDef) -> Any:
    try:
        return decode(sent, media_type, found, field_validation="Ignore")[0]
    except ApiError as err:
        return str(err)


# --- bytes that are none of it


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["pods", "configmaps", "services", "events"]))
def test_random_bytes_are_an_answer_or_an_api_error(raw: bytes, plural: str) -> None:
    found = resource(plural)
    for sent in (raw, b"k8s\x00" + raw, body(found.api_version, found.kind, raw)):
        assert_answered(sent, found)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_bodies_are_an_answer_or_an_api_error(data: st.DataObject) -> None:
    whole = bytearray(core("Pod", encode("core.v1.Pod", data.draw(objects("core.v1.Pod", 3)))))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[at] = data.draw(st.integers(0, 255))
    assert_answered(bytes(whole[: data.draw(st.integers(0, len(whole)))]), resource("pods"))


def assert_answered(sent: bytes, found: ResourceDef) -> None:
    try:
        obj, _ = decode(sent, MEDIA_TYPE, found)
    except ApiError:
        return
    assert orjson.loads(orjson.dumps(obj)) == obj


# --- over HTTP


PATH = "/api/v1/namespaces/default/configmaps"


def named(name: str, *data: bytes) -> bytes:
    return core("ConfigMap", chunk(1, chunk(1, name)) + b"".join(data))


def test_create_update_and_delete(shared_apiserver: ApiServer) -> None:
    made = shared_apiserver.post(PATH, named("wire"), content_type=MEDIA_TYPE, accept=f"{MEDIA_TYPE},application/json")
    assert (made.status, made.headers["Content-Type"], made.body["kind"]) == (201, "application/json", "ConfigMap")
    pair = chunk(2, chunk(1, "a") + chunk(2, "b"))
    changed = shared_apiserver.put(f"{PATH}/wire", named("wire", pair), content_type=MEDIA_TYPE)
    assert (changed.status, changed.body["data"]) == (200, {"a": "b"})

    def delete(uid: str) -> int:
        options = core("DeleteOptions", chunk(2, chunk(1, uid)) + chunk(4, "Background"))
        return shared_apiserver.call("DELETE", f"{PATH}/wire", options, content_type=MEDIA_TYPE).status

    assert delete("another") == 409
    assert delete(made.body["metadata"]["uid"]) == 200


def test_bodies_that_are_no_options(shared_apiserver: ApiServer) -> None:
    for sent in (b"k8s\x00\x0a", b"{}", named("x"), core("DeleteOptions", number(2, 1))):
        answer = shared_apiserver.call("DELETE", f"{PATH}/none", sent, content_type=MEDIA_TYPE)
        assert (answer.status, answer.body["reason"]) == (400, "BadRequest")


def test_a_broken_body_is_a_bad_request(shared_apiserver: ApiServer) -> None:
    answer = shared_apiserver.post(PATH, core("ConfigMap", META[:-1]), content_type=MEDIA_TYPE)
    assert (answer.status, answer.body["kind"], answer.body["reason"]) == (400, "Status", "BadRequest")


def test_patches_are_never_protobuf(shared_apiserver: ApiServer) -> None:
    shared_apiserver.post(PATH, named("patched"), content_type=MEDIA_TYPE)
    answer = shared_apiserver.call("PATCH", f"{PATH}/patched", named("patched"), content_type=MEDIA_TYPE)
    assert (answer.status, answer.body["reason"]) == (415, "UnsupportedMediaType")
