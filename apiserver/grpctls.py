"""TLS in front of the gRPC server: client certificates welcome, but not demanded.

gRPC's Python server asks for a client certificate either never or always; kubelets come with certificates and pods with
tokens, at one port. So TLS ends here, with the same context as for REST, and the bytes go on to the gRPC server over a
Unix socket in a folder of our own. Each connection's end of that socket is bound to a name of its own, which the gRPC
server sees as its peer: by it the door looks up whose certificate it was.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import cast

from apiserver.auth.authenticator import peer_certificate
from kubarium.machinery.errors import ConfigError

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
FOLDER_PREFIX = "kubarium-grpc-"
BACKEND = "grpc.sock"
BUFFER = 1 << 20  # bytes waiting for one side before the other is no longer read

Certificate = Mapping[str, object]


class _End(asyncio.Protocol):
    """One end of a connection: what arrives is written to `other`, no faster than that takes it."""

    transport: asyncio.Transport
    other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFER)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.transport.close()


class _Client(_End):
    """A client's TLS connection; nothing is read from it before its way to the gRPC server stands."""

    def __init__(self, front: TlsFront) -> None:
        self._front = front
        self._name: str | None = None
        self._joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._joining = asyncio.create_task(self._join(), name="grpc/join")

    async def _join(self) -> None:
        self._name, sock = self._front.named_socket(peer_certificate(self.transport))
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, str(self._front.backend))
            _, self.other = await loop.create_connection(self._far_end, sock=sock)
        except OSError as err:
            log.error("grpc: the way from TLS to the server is broken: %s", err)
            sock.close()
            self.transport.abort()
            return
        self.transport.resume_reading()

    def _far_end(self) -> _End:
        end = _End()
        end.other = self  # from the start: the server speaks first, and its SETTINGS must not be lost
        return end

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._joining is not None:
            self._joining.cancel()
        if self._name is not None:
            self._front.forget(self._name)


def private_folder(parent: Path | None = None) -> Path:
    """A folder for a TlsFront, in `parent` or where temporary files go; what killed servers left there is removed."""
    base = parent or Path(tempfile.gettempdir())
    for left in base.glob(FOLDER_PREFIX + "*"):
        if is_abandoned(left / BACKEND):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))  # mode 0700


def is_abandoned(path: Path) -> bool:
    """Whether nobody listens on a socket any more; one that is not there yet is about to be."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


class TlsFront:
    """`folder` must be ours alone (mode 0700): whoever can reach `backend` can take any name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        self._certificates: dict[str, Certificate | None] = {}
        self._listener: asyncio.Server | None = None
        self.backend = folder / BACKEND

    async def start(self, host: str, port: int, tls: ssl.SSLContext) -> int:
        """Listen; the port (for 0, the one found). The context is changed to offer HTTP/2. Raises ConfigError."""
        tls.set_alpn_protocols(["h2"])
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                lambda: _Client(self), host, port, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S, backlog=1024
            )
        except OSError as err:
            raise ConfigError(f"{host}:{port}: {err.strerror}; choose another --grpc-port or --bind-address") from err
        found: int = self._listener.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """No new connections; those that stand end with the gRPC server's own."""
        if self._listener is not None:
            self._listener.close()

    def knows(self, peer: str) -> bool:
        """Whether a peer of the gRPC server is a connection that came through here."""
        return peer.removeprefix("unix:") in self._certificates

    def certificate(self, peer: str) -> Certificate | None:
        """The verified certificate of a peer, as `SSLObject.getpeercert` gives it; None where it showed none."""
        return self._certificates.get(peer.removeprefix("unix:"))

    def named_socket(self, certificate: Certificate | None) -> tuple[str, socket.socket]:
        name = str(self._folder / str(next(self._numbers)))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.bind(name)
        self._certificates[name] = certificate
        return name, sock

    def forget(self, name: str) -> None:
        self._certificates.pop(name, None)
        with suppress(FileNotFoundError):
            Path(name).unlink()
