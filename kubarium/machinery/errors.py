"""The tree of errors that every component raises and catches.

`ApiError` is the wire `Status` object of the API conventions; nobody matches on message text, only on class or
`reason`.
Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple


class ClusterError(Exception):
    """Anything that kubarium itself detects; its text is fit for a user to read."""


class ConfigError(ClusterError):
    """A flag, file or setting that cannot be used: says what was wrong, what was expected, what to do."""


class StoreError(ClusterError):
    """The store cannot do what was asked."""


class KeyExists(StoreError):
    """A create met an object that is already there."""


class KeyMissing(StoreError):
    """An update or delete met no object."""


class RevisionMismatch(StoreError):
    """A guarded update or delete met another revision than expected."""

    def __init__(self, message: str, current: int = 0) -> None:
        super().__init__(message)
        self.current = current


class Compacted(StoreError):
    """The revision asked for has been compacted away."""

    def __init__(self, message: str, compact_revision: int = 0) -> None:
        super().__init__(message)
        self.compact_revision = compact_revision


class FutureRevision(StoreError):
    """The revision asked for has not been reached."""


class ValueTooLarge(StoreError):
    """The store takes no value of that size."""


class StoreUnavailable(StoreError):
    """The store does not answer; trying again later may help."""


class NetworkError(ClusterError):
    """A network could not be made as planned."""


class NetlinkError(NetworkError):
    """The kernel refused a link, address, route or neighbour."""


class NftError(NetworkError):
    """The kernel or libnftables refused a transaction; nothing of it was applied."""


class PoolExhausted(NetworkError):
    """No free address (or port) is left in a range."""


class ContainerError(ClusterError):
    """The container runtime refused or failed."""


class StatusCause(NamedTuple):
    """One entry of `details.causes`: `reason` such as FieldValueInvalid, `field` such as spec.ports[0].port."""

    reason: str
    message: str
    field: str = ""

    def to_dict(self) -> dict[str, Any]:
        every = {"reason": self.reason, "message": self.message, "field": self.field}
        return {name: text for name, text in every.items() if text}


class ApiError(ClusterError):
    """A Kubernetes `Status` with status Failure.

    `details` holds the keys of StatusDetails (name, group, kind, uid, causes, retryAfterSeconds). `from_status` gives
    the subclass that fits the reason, so that a client catches `NotFound`, not a code.
    """

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"
    _by_reason: ClassVar[dict[str, type[ApiError]]] = {}

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        code: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})
        self.status_code = self.code if code is None else code
        self.status_reason = self.reason if reason is None else reason
        self.warnings: tuple[str, ...] = ()  # what the answer warns of besides

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        ApiError._by_reason.setdefault(cls.reason, cls)

    def to_status(self) -> dict[str, Any]:
        """The Status object as it goes over the wire."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.status_reason:
            status["reason"] = self.status_reason
        if self.details:
            status["details"] = self.details
        return status | {"code": self.status_code}

    @staticmethod
    def from_status(status: Mapping[str, Any]) -> ApiError:
        """The error a server sent: the subclass of its reason, or ApiError itself for a reason without one."""
        reason = str(status.get("reason") or "")
        kind = ApiError._by_reason.get(reason, ApiError)
        return kind(
            str(status.get("message") or reason or "unknown error"),
            details=status.get("details") or {},
            code=int(status.get("code") or kind.code),
            reason=reason,
        )


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    code, reason = 406, "NotAcceptable"


class Conflict(ApiError):
    code, reason = 409, "Conflict"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Expired(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""

    code, reason = 410, "Expired"


class Gone(ApiError):
    code, reason = 410, "Gone"


class RequestEntityTooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """422: the object was understood and is wrong; `details.causes` names each field."""

    code, reason = 422, "Invalid"

    @classmethod
    def of(cls, group: str, kind: str, name: str, causes: Sequence[StatusCause]) -> Invalid:
        """`Service "web" is invalid: spec.ports[0].port: Invalid ...`, as apimachinery's NewInvalid prints it."""
        texts = list(dict.fromkeys(f"{c.field}: {c.message}" if c.field else c.message for c in causes))
        text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
        gk = f"{kind}.{group}" if group else kind
        details: dict[str, Any] = {"name": name} if name else {}
        if group:
            details["group"] = group
        details |= ({"kind": kind} if kind else {}) | {"causes": [c.to_dict() for c in causes]}
        return cls(f'{gk} "{name}" is invalid: {text}', details=details)


class TooManyRequests(ApiError):
    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(ApiError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    code, reason = 504, "Timeout"
