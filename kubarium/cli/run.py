"""Runs one API command and turns whatever goes wrong into kubectl's words and exit codes."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from kubarium.machinery.errors import ApiError, ClusterError


class Exit(Exception):
    """End now with this exit code; everything has been said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class UsageError(ClusterError):
    """The command line makes no sense; the text says why."""


def run(command: str, module: str, argv: list[str]) -> int:
    """Exit code of `module.main(command, argv)`."""
    try:
        import_module(module).main(command, argv)
        sys.stdout.flush()
    except Exit as stop:
        return stop.code
    except ApiError as err:
        print(describe_error(err), file=sys.stderr)
        return 1
    except ClusterError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains when it flushes at exit
        return 1
    return 0


def describe_error(err: ApiError, *, short: bool = False) -> str:
    """As kubectl prints an error of the API server; `short` where it is one of several."""
    if err.status_reason == "Invalid" and not short:
        return _invalid(err)
    reason = f" ({err.status_reason})" if err.status_reason else ""
    return f"Error from server{reason}: {err.message}"


def _invalid(err: ApiError) -> str:
    kind, name = err.details.get("kind", ""), err.details.get("name", "")
    causes = err.details.get("causes") or []
    what = f'The {kind} "{name}" is invalid' if kind or name else "The request is invalid"
    if not causes:
        return what if kind or name else f"{what}: {err.message}"
    texts = [f"{cause['field']}: {cause['message']}" if cause.get("field") else cause["message"] for cause in causes]
    if len(texts) == 1:
        return f"{what}: {texts[0]}"
    return "\n* ".join([f"{what}: ", *texts])
