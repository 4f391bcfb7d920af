"""Values against their OpenAPI schema: type, format, limits, patterns, enumerations, junctors, fields.

Source: OpenAPI 3.0, "Schema Object"; k8s.io/kube-openapi pkg/validation/validate (order and texts).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiserver.custom import formats, patterns
from apiserver.custom.findings import Finding, Result, go_number, report
from apiserver.custom.ratchet import Correlated
from apiserver.equality import same
from apiserver.registry.faults import Faults, quoted

Json = dict[str, Any]


def check(value: Any, schema: Json, faults: Faults, *, path: str = "", old: Correlated | None = None) -> None:
    """Add to `faults` what is wrong. `path` is where the value stands; `old` correlates it with what it was before."""
    result = validator(schema).check(value, "", old)
    if not result.valid:
        report(result.found, path, faults)


class Validator:
    """The checks of one schema, made ready."""

    __slots__ = (
        "_additional",
        "_all",
        "_any",
        "_enum",
        "_format",
        "_items",
        "_not",
        "_numeric",
        "_one",
        "_properties",
        "_required",
        "_schema",
        "_types",
    )

    def __init__(self, schema: Json) -> None:
        self._schema = schema
        type_ = schema.get("type") or ""
        self._types: tuple[str, ...] = (type_,) if type_ else ()
        if schema.get("x-kubernetes-int-or-string"):
            self._types = ("integer", "string")
        format_ = schema.get("format") or ""
        one = self._types[0] if len(self._types) == 1 else ""
        self._format: str = format_ if format_ and formats.is_known(format_, one) else ""
        self._numeric = one if one in formats.NUMERIC else ""
        self._enum: list[Any] = schema.get("enum") or []
        self._any = [validator(inner) for inner in schema.get("anyOf") or ()]
        self._one = [validator(inner) for inner in schema.get("oneOf") or ()]
        self._all = [validator(inner) for inner in schema.get("allOf") or ()]
        self._not = validator(schema["not"]) if schema.get("not") is not None else None
        items, additional = schema.get("items"), schema.get("additionalProperties")
        self._items = validator(items) if isinstance(items, dict) else None
        self._additional: Validator | bool = (
            validator(additional) if isinstance(additional, dict) else additional is not False
        )
        self._properties: Mapping[str, Validator] = {
            name: validator(inner) for name, inner in (schema.get("properties") or {}).items()
        }
        self._required: list[str] = schema.get("required") or []

    def check(self, value: Any, path: str, old: Correlated | None) -> Result:
        """What is wrong with a value that an update has changed; nothing where it left it alone."""
        result = self._check(value, path, old)
        if not result.valid and old is not None and old.unchanged:
            left = Result()
            left.count = result.count
            return left
        return result

    def _check(self, value: Any, path: str, old: Correlated | None) -> Result:
        result = Result()
        if value is None:
            result.merge(self._check_type(value, path))
            result.add(self._check_enum(value, path))
            return result
        if self._types or self._format:
            result.merge(self._check_type(value, path))
            result.count += 1
        result.merge(self._check_junctors(value, path, old))
        result.count += 1
        if isinstance(value, str):
            result.add(self._check_string(value, path))
            result.count += 1
            if self._format and (check := formats.check_of(self._format)) is not None:
                if not check(value):
                    result.add([type_finding(path, self._format, value)])
                result.count += 1
        elif isinstance(value, int | float) and not isinstance(value, bool):
            result.merge(self._check_number(value, path))
            result.count += 1
        elif isinstance(value, list):
            result.merge(self._check_list(value, path, old))
            result.count += 1
        result.add(self._check_enum(value, path))
        result.count += 1
        if isinstance(value, dict):
            result.merge(self._check_map(value, path, old))
            result.count += 1
        result.count += 1
        return result

    # -- types ---------------------------------------------------------------------------------------------------------

    def _check_type(self, value: Any, path: str) -> Result:
        types, format_ = self._types, self._format
        result = Result()
        if value is None:
            if types and not self._schema.get("nullable"):
                return Result(type_finding(path, ",".join(types), "null"))
            result.count = 1
            return result
        found, found_format = type_of(value)
        whole = found == "number" and float(value).is_integer() and "integer" in types
        widened = found == "integer" and "number" in types
        textual = isinstance(value, str | list)
        if not textual and format_ and not (found in types or found_format == format_ or whole or widened):
            return Result(type_finding(path, format_, found_format))
        result.count = 1
        if textual and format_ and not ("number" in types or "integer" in types):
            return result
        if types and not (found in types or whole or widened):
            return Result(type_finding(path, ",".join(types), found))
        return result

    def _check_enum(self, value: Any, path: str) -> list[Finding]:
        if not self._enum or (value is not None and any(same(value, allowed) for allowed in self._enum)):
            return []
        shown = " ".join(map(str, self._enum))
        return [Finding("enum", path, f"{path} in body should be one of [{shown}]", value, self._enum)]

    # -- strings and numbers -------------------------------------------------------------------------------------------

    def _check_string(self, value: str, path: str) -> list[Finding]:
        schema = self._schema
        if (limit := schema.get("maxLength")) is not None and len(value) > limit:
            return [Finding("long", path, f"{path} in body should be at most {limit} chars long", value, limit)]
        if (limit := schema.get("minLength")) is not None and len(value) < limit:
            return [Finding("", path, f"{path} in body should be at least {limit} chars long", value)]
        if pattern := schema.get("pattern"):
            try:
                if patterns.matches(pattern, value):
                    return []
            except patterns.BadPattern as err:
                pattern = f"{pattern}, but pattern is invalid: {err}"
            return [Finding("", path, f"{path} in body should match '{pattern}'", value)]
        return []

    def _check_number(self, value: float, path: str) -> Result:
        schema, result = self._schema, Result()
        if self._numeric == "integer" and not in_range(value, self._format):
            about = f"integer with format {self._format}" if self._format else "integer (default format)"
            result.add([Finding("", None, f"Checked value must be of type {about} in {path}")])
        if (factor := schema.get("multipleOf")) is not None and (found := _check_multiple(value, factor, path)):
            result.add([found])
        for key, open_key, sign, word in (
            ("minimum", "exclusiveMinimum", 1, "greater"),
            ("maximum", "exclusiveMaximum", -1, "less"),
        ):
            if (limit := schema.get(key)) is None:
                continue
            limit = int(limit) if isinstance(value, int) else float(limit)
            exclusive = bool(schema.get(open_key))
            beyond = (limit - value) * sign
            if beyond > 0 or (exclusive and beyond == 0):
                relation = f"{word} than" if exclusive else f"{word} than or equal to"
                text = f"{path} in body should be {relation} {go_number(limit)}"
                result.add([Finding("", path, text, value)])
        result.count += 1
        return result

    # -- lists and maps ------------------------------------------------------------------------------------------------

    def _check_list(self, value: list[Any], path: str, old: Correlated | None) -> Result:
        result, schema = Result(), self._schema
        if self._items is not None:
            for i, item in enumerate(value):
                result.merge(self._items.check(item, f"{path}[{i}]", old.index(i) if old else None))
        if (limit := schema.get("minItems")) is not None and len(value) < limit:
            result.add([Finding("", path, f"{path} in body should have at least {limit} items", len(value))])
        if (limit := schema.get("maxItems")) is not None and len(value) > limit:
            text = f"{path} in body should have at most {limit} items"
            result.add([Finding("many", path, text, len(value), (len(value), limit))])
        if schema.get("uniqueItems") and any(same(a, b) for i, a in enumerate(value) for b in value[:i]):
            result.add([Finding("", path, f"{path} in body shouldn't contain duplicates")])
        result.count += 1
        return result

    def _check_map(self, value: Json, path: str, old: Correlated | None) -> Result:
        result, schema = Result(), self._schema
        if (limit := schema.get("minProperties")) is not None and len(value) < limit:
            result.add([Finding("", path, f"{path} in body should have at least {limit} properties", len(value))])
        if (limit := schema.get("maxProperties")) is not None and len(value) > limit:
            text = f"{path} in body should have at most {limit} properties"
            result.add([Finding("many", path, text, len(value), (len(value), limit))])
        additional, properties = self._additional, self._properties
        if additional is not True:
            for key, item in sorted(value.items()):
                if key in properties:
                    continue
                if additional is False:
                    result.add([Finding("", path, f"{path}.{key} in body is a forbidden property", key)])
                elif isinstance(additional, Validator):
                    result.merge(additional.check(item, f"{path}.{key}", old.key(key) if old else None))
        for key, inner in properties.items():
            if key in value:
                before = old.key(key) if old and (path or key not in ("apiVersion", "kind")) else None
                result.merge(inner.check(value[key], f"{path}.{key}" if path else key, before))
        result.add(
            Finding("required", f"{path}.{key}", f"{path}.{key} in body is required")
            for key in self._required
            if key not in value
        )
        return result

    # -- junctors ------------------------------------------------------------------------------------------------------

    def _check_junctors(self, value: Any, path: str, old: Correlated | None) -> Result:
        result = Result()
        if self._any:
            result.merge(_any_of([inner._check(value, path, old) for inner in self._any], path))
        if self._one:
            result.merge(_one_of([inner._check(value, path, old) for inner in self._one], path))
        if self._all:
            found = [inner._check(value, path, old) for inner in self._all]
            for one in found:
                result.merge(one)
            if not all(one.valid for one in found):
                more = "" if any(one.valid for one in found) else ". None validated"
                result.add([Finding("", None, f"{quoted(path)} must validate all the schemas (allOf){more}")])
        if self._not is not None and self._not._check(value, path, old).valid:
            result.add([Finding("", None, f"{quoted(path)} must not validate the schema (not)")])
        result.count += 1
        return result


def _best(failed: list[Result]) -> Result:
    best = failed[0]
    for one in failed[1:]:
        if one.count > best.count:
            best = one
    return best


def _any_of(found: list[Result], path: str) -> Result:
    for one in found:
        if one.valid:
            return one
    result = Result(Finding("", None, f"{quoted(path)} must validate at least one schema (anyOf)"))
    result.merge(_best(found))
    return result


def _one_of(found: list[Result], path: str) -> Result:
    valid = [one for one in found if one.valid]
    if len(valid) == 1:
        return valid[0]
    more = f"Found {len(valid)} valid alternatives" if valid else "Found none valid"
    result = Result(Finding("", None, f"{quoted(path)} must validate one and only one schema (oneOf). {more}"))
    if not valid:
        result.merge(_best(found))
    return result


def _check_multiple(value: float, factor: float, path: str) -> Finding | None:
    if isinstance(value, int):
        factor = int(factor)
    if factor <= 0:
        text = f"factor MultipleOf declared for {path} must be positive: {go_number(factor)}"
        return Finding("", path, text, factor)
    if isinstance(value, int):
        good = value % factor == 0
    else:
        quotient = 1 / factor * value if factor < 1 else value / factor
        good = float(quotient).is_integer() or abs(quotient - round(quotient)) < 1e-9
    text = f"{path} in body should be a multiple of {go_number(factor)}"
    return None if good else Finding("", path, text, value)


def in_range(value: float, format_: str) -> bool:
    """Whether an integer can be written as one of that format."""
    if isinstance(value, float) and not value.is_integer():
        return False
    bits = 31 if format_ == "int32" else 63
    return -(1 << bits) <= value < 1 << bits


def type_of(value: Any) -> tuple[str, str]:
    """The type of a JSON value, and the format that numbers have."""
    if isinstance(value, bool):
        return "boolean", ""
    if isinstance(value, str):
        return "string", ""
    if isinstance(value, int):
        return "integer", "int64"
    if isinstance(value, float):
        return "number", "float64"
    return ("array", "") if isinstance(value, list) else ("object", "")


def type_finding(path: str, wanted: str, found: str) -> Finding:
    return Finding("type", path, f"{path} in body must be of type {wanted}: {quoted(found)}", found)


def validator(schema: Json) -> Validator:
    return Validator(schema)
