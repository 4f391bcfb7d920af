"""Servers on Unix sockets that only root may use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

STOP_GRACE_S = 1


def make_way(path: Path) -> None:
    """A socket left by a killed server is in the way of the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def root_only(path: Path) -> None:
    path.chmod(0o600)


@asynccontextmanager
async def serving_grpc(path: Path, add: Callable[[Any], None]) -> AsyncIterator[None]:
    """A gRPC server at `path` until the block is left; `add` puts its services in."""
    import grpc.aio

    make_way(path)
    server = grpc.aio.server()
    add(server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    root_only(path)
    try:
        yield
    finally:
        await server.stop(grace=STOP_GRACE_S)
