"""Strategic merge patch: lists of objects merge by their key, and directives say what JSON merge patch cannot.

Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$setElementOrder/LIST`, `$deleteFromPrimitiveList/LIST`.
Source: Kubernetes design document "Strategic Merge Patch"; k8s.io/apimachinery/pkg/util/strategicpatch (texts).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from apiserver.schemas import shape

Json = dict[str, Any]

_PATCH, _RETAIN = "$patch", "$retainKeys"
_ORDER, _DELETE = "$setElementOrder/", "$deleteFromPrimitiveList/"


class PatchError(ValueError):
    """The patch cannot be applied. `bad_format`: a directive of it has no such form, which upstream tells apart."""

    def __init__(self, text: str, *, bad_format: bool = False) -> None:
        super().__init__(text)
        self.bad_format = bad_format


def merge(original: Json, patch: Json, type_name: str) -> Json:
    """The original (of the type named, such as `core.v1.Pod`) with the patch applied. Both stay as they are.

    Raises PatchError.
    """
    return _merge_map(copy.deepcopy(original), copy.deepcopy(patch), ["struct", type_name])


# --- what the types tell


def _field(type_: list[Any] | None, name: str) -> shape.Field | None:
    if type_ is None or type_[0] != "struct":
        return None
    return shape.struct(type_[1]).fields.get(name)


def _inner(type_: list[Any] | None, name: str) -> list[Any] | None:
    """The type of a member of a struct or map."""
    if type_ is not None and type_[0] == "map":
        inner: list[Any] = type_[1]
        return inner
    field = _field(type_, name)
    return field.type if field else None


# --- maps


def _merge_map(original: Json, patch: Json, type_: list[Any] | None) -> Json:
    if _PATCH in patch:
        return _whole(patch)
    _retain(original, patch)
    _merge_ordered_lists(original, patch, type_)
    for key, value in patch.items():
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            if isinstance(value, list) and isinstance(original.get(name), list):
                original[name] = [item for item in original[name] if item not in value]
        elif value is None:
            original.pop(key, None)
        else:
            merged = _merge_value(original.get(key), value, type_, key)
            if merged is _GONE:
                original.pop(key, None)
            else:
                original[key] = merged
    return original


def _whole(patch: Json) -> Json:
    """A map that is replaced or deleted as a whole."""
    directive = patch.pop(_PATCH)
    if directive == "replace":
        return patch
    if directive == "delete":
        return {}
    raise PatchError(f"unknown patch type: {directive} in map: {go_text({_PATCH: directive} | patch)}")


def _merge_value(current: Any, value: Any, type_: list[Any] | None, key: str) -> Any:
    field, inner = _field(type_, key), _inner(type_, key)
    strategy = field.strategy.split(",") if field else []
    if isinstance(current, dict) and isinstance(value, dict):
        return value if "replace" in strategy else _merge_map(current, value, inner)
    if isinstance(current, list) and isinstance(value, list) and "merge" in strategy and field and inner:
        return _merge_list(current, value, inner[1], field.merge_key)
    return _new(value)


_GONE = object()


def _new(value: Any) -> Any:
    """A part of a patch that there was nothing like: without nulls, and without maps that hold a directive (_GONE)."""
    if isinstance(value, dict):
        if _PATCH in value:
            return _GONE
        found = {key: _new(item) for key, item in value.items() if item is not None}
        return {key: item for key, item in found.items() if item is not _GONE}
    if isinstance(value, list):
        return [item for item in map(_new, value) if item is not _GONE]
    return value


def _retain(original: Json, patch: Json) -> None:
    """`$retainKeys` lists all keys that stay; the patch may set no other."""
    if _RETAIN not in patch:
        return
    keys = patch.pop(_RETAIN)
    if not isinstance(keys, list):
        raise PatchError("invalid patch format of retainKeys", bad_format=True)
    for key in patch:
        if not key.startswith("$") and key not in keys:
            raise PatchError("invalid patch format of retainKeys", bad_format=True)
    for key in [k for k in original if k not in keys]:
        del original[key]


# --- lists


def _merge_ordered_lists(original: Json, patch: Json, type_: list[Any] | None) -> None:
    """Lists whose order the patch tells are merged here, and taken out of the patch."""
    for marker in [k for k in patch if k.startswith(_ORDER)]:
        key = marker.removeprefix(_ORDER)
        order, value = patch.pop(marker), patch.pop(key, None)
        deleted = patch.pop(_DELETE + key, None)
        if not isinstance(order, list):
            raise PatchError(f"expected a []interface {{}}, but received a {_go_kind(order)}")
        field, inner = _field(type_, key), _inner(type_, key)
        if field is None and type_ is not None and type_[0] == "struct":
            short = type_[1].rpartition(".")[2]
            raise PatchError(f'unable to find api field in struct {short} for the json field "{key}"')
        merge_key = field.merge_key if field else ""
        identity = _identity(merge_key)
        ids = [identity(item) for item in order]
        _check_order(value or [], order, identity)
        current = original.get(key)
        if isinstance(current, list) and deleted:
            current = [item for item in current if item not in deleted]
        if current is None and value is None:
            continue
        merged = _merge_list(current or [], value or [], inner[1] if inner else None, merge_key)
        original[key] = _in_order(merged, ids, [identity(i) for i in original.get(key) or []], identity)


def _go_kind(value: Any) -> str:
    """The Go type of a decoded value that is no list."""
    if isinstance(value, dict):
        return "map[string]interface {}"
    kinds = {str: "string", bool: "bool", int: "int64", float: "float64"}
    return kinds.get(type(value), "<nil>")


def _identity(merge_key: str) -> Callable[[Any], Any]:
    """What tells the items of a list apart; numbers and their text are the same."""
    if merge_key:
        return lambda item: str(item.get(merge_key)) if isinstance(item, dict) else item
    return lambda item: str(item) if isinstance(item, dict | list) else item


def _check_order(items: list[Any], order: list[Any], identity: Callable[[Any], Any]) -> None:
    """Every item of the patch must be in the order list, and in that order."""
    ids, at = [identity(item) for item in order], 0
    for item in items:
        if isinstance(item, dict) and _PATCH in item:
            continue
        try:
            at = ids.index(identity(item), at) + 1
        except ValueError:
            shown = "\n doesn't match $setElementOrder list:\n".join(map(go_text, (items, order)))
            text = f"The order in patch list:\n{shown}\n"
            raise PatchError(text) from None


def _merge_list(current: list[Any], patch: list[Any], item_type: list[Any] | None, merge_key: str) -> list[Any]:
    if not current and not patch:
        return current
    if all(not isinstance(item, dict | list) for item in [*current, *patch]):
        merged = list(dict.fromkeys([*current, *patch]))
        identity = _identity("")
    else:
        merged, replaced = _merge_maps(current, patch, item_type, merge_key)
        if replaced:
            return merged
        identity = _identity(merge_key)
    named = [i for i in patch if not (isinstance(i, dict) and _PATCH in i)]
    return _in_order(merged, [identity(i) for i in named], [identity(i) for i in current], identity)


def _merge_maps(
    current: list[Any], patch: list[Any], item_type: list[Any] | None, merge_key: str
) -> tuple[list[Any], bool]:
    """Items merged by key, and whether a directive has replaced the whole list."""
    kind = f"{item_type[1].rpartition('.')[2]}" if item_type and item_type[0] == "struct" else "map"
    if not merge_key:
        raise PatchError(f"cannot merge lists without merge key for type {kind}")
    merged, ordinary = list(current), []
    replaced = False
    for item in patch:
        if not isinstance(item, dict):
            raise PatchError(f"list element types are not identical: [{go_text(current)} {go_text(patch)}]")
        directive = item.get(_PATCH)
        if directive is None:
            ordinary.append(item)
        elif directive == "delete":
            wanted = _key_of(item, merge_key)
            merged = [m for m in merged if not (isinstance(m, dict) and str(m.get(merge_key)) == wanted)]
        elif directive == "replace":
            replaced = True
        else:
            raise PatchError(f"unknown patch type: {directive} in map: {go_text(item)}")
    if replaced:
        return ordinary, True
    for item in ordinary:
        wanted = _key_of(item, merge_key)
        found = next((i for i, m in enumerate(merged) if str(m.get(merge_key)) == wanted), None)
        if found is None:
            merged.append(item)  # as it is: upstream takes directives in it for fields
        else:
            merged[found] = _merge_map(dict(merged[found]), item, item_type)
    return merged, False


def _key_of(item: Json, merge_key: str) -> str:
    if merge_key not in item:
        shown = go_text(item)
        raise PatchError(f"map: {shown} does not contain declared merge key: {merge_key}")
    return str(item[merge_key])


def _in_order(items: list[Any], wanted: list[Any], server: list[Any], identity: Callable[[Any], Any]) -> list[Any]:
    """Items that the patch names stand in its order; the others keep their place among them as far as that goes."""
    rank = {key: i for i, key in reversed(list(enumerate(wanted)))}
    place = {key: i for i, key in reversed(list(enumerate(server)))}
    named = sorted((i for i in items if identity(i) in rank), key=lambda i: rank[identity(i)])
    others = sorted((i for i in items if identity(i) not in rank), key=lambda i: place.get(identity(i), len(place)))
    out = []
    while named or others:
        if not named:
            out.append(others.pop(0))
        elif not others:
            out.append(named.pop(0))
        else:
            left, right = place.get(identity(others[0])), place.get(identity(named[0]))
            before = left is not None and right is not None and left < right
            out.append((others if before else named).pop(0))
    return out


def go_text(value: Any) -> str:
    """A value as Go's %v prints it: `map[a:1 b:[x y]]`."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{go_text(v)}" for k, v in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(go_text(v) for v in value) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
