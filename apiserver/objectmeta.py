"""What the server itself writes into an object's metadata. Pure: time and ids are passed in.

Source: k8s.io/apiserver pkg/registry/rest (BeforeCreate, BeforeUpdate); API conventions, "Metadata".
"""

from __future__ import annotations

from apiserver.registry.base import Object, ResourceDef
from kubarium.machinery.errors import BadRequest

NAME_LIMIT = 63
# Fields of metadata that only the server sets.
SERVER_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


def metadata_of(obj: Object) -> Object:
    """The object's metadata, made where it is missing."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        metadata = obj["metadata"] = {}
    return metadata


def match_namespace(obj: Object, resource: ResourceDef, namespace: str) -> None:
    """Fill in the namespace of the request; BadRequest where the object names another."""
    metadata = metadata_of(obj)
    if not resource.namespaced:
        if not namespace:
            metadata.pop("namespace", None)
        return
    own = metadata.get("namespace", "")
    if own and own != namespace:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
    metadata["namespace"] = namespace


def match_name(obj: Object, name: str) -> None:
    """BadRequest where the object in the body is not the one that the path names."""
    metadata = metadata_of(obj)
    own = metadata.get("name")
    if not own:
        raise BadRequest(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if own != name:
        raise BadRequest(f"the name of the object ({own}) does not match the name on the URL ({name})")


def drop_repeated_owners(obj: Object, *, late: bool = False) -> list[str]:
    """Keep one of each owner reference; what to warn of. `late`: the object comes of a patch, not of the body."""
    references = metadata_of(obj).get("ownerReferences") or ()
    if len(references) < 2:
        return []
    kept: list[Object] = []
    repeated: list[str] = []
    for reference in references:
        if reference in kept:
            repeated.append(reference.get("uid", ""))
        else:
            kept.append(reference)
    if not repeated:
        return []
    obj["metadata"]["ownerReferences"] = kept
    when = " after mutating admission happens" if late else ""
    return [
        f".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, "
        "and may reject such requests as early as 1.24; please fix your requests; "
        f"duplicate UID(s) observed: {', '.join(repeated)}"
    ]


def generated_name(prefix: str, suffix: str) -> str:
    """`web-` -> `web-x7k2p`; the prefix is cut so that the whole stays a DNS label."""
    return prefix[: NAME_LIMIT - len(suffix)] + suffix


def stamp_new(obj: Object, *, uid: str, now: str) -> None:
    """Metadata of an object that is about to be made."""
    metadata = metadata_of(obj)
    for field in SERVER_FIELDS:
        metadata.pop(field, None)
    metadata["uid"] = uid
    metadata["creationTimestamp"] = now
    drop_empty(metadata)


def carry_over(new: Object, old: Object) -> None:
    """What an update need not repeat, and what it cannot change: the rest is judged."""
    metadata, was = metadata_of(new), old["metadata"]
    if not metadata.get("uid"):
        metadata["uid"] = was["uid"]
    for field in ("creationTimestamp", "deletionTimestamp"):
        if was.get(field):
            metadata[field] = was[field]
    if metadata.get("deletionGracePeriodSeconds") is None and "deletionGracePeriodSeconds" in was:
        metadata["deletionGracePeriodSeconds"] = was["deletionGracePeriodSeconds"]
    if "generation" in was:
        metadata["generation"] = was["generation"]
    else:
        metadata.pop("generation", None)
    drop_empty(metadata)


def drop_empty(metadata: Object) -> None:
    """Go's omitempty: maps, lists and strings without content are not there."""
    for field in ("labels", "annotations", "ownerReferences", "finalizers", "generateName", "managedFields"):
        if field in metadata and not metadata[field]:
            del metadata[field]
