"""`kubarium exec`: run a command in a container, over one WebSocket with a channel a stream.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ and the subprotocols v5.channel.k8s.io, v4...
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from kubarium.cli import pods, target
from kubarium.cli.flags import Parser
from kubarium.cli.http import Server, tls_context
from kubarium.cli.run import Exit, UsageError
from kubarium.machinery.errors import ApiError, ClusterError

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PIECE = 32768


def main(command: str, argv: list[str]) -> None:
    argv, given = _cut(argv)
    parser = Parser("exec", "POD | TYPE/NAME [-c CONTAINER] [-it] -- COMMAND [ARG...]", "Run a command in a container.")
    parser.add_argument("words", nargs="*", metavar="POD")
    parser.add_argument("-c", "--container", default="")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    parser.add_argument("-q", "--quiet", action="store_true")
    args = parser.parse(argv)
    command_line = given or args.words[1:]
    if not args.words:
        raise UsageError("pod, type/name or --filename must be specified")
    if not command_line:
        raise UsageError("you must specify at least one command for the container")
    server = Server(target.find(args))
    namespace = args.namespace or server.namespace
    pod = pods.find(server, namespace, args.words[0], announce=False)
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        raise ClusterError(
            f"cannot exec into a container in a completed pod; current phase is {pod['status']['phase']}"
        )
    container = pods.container(pod, args.container, quiet=args.quiet)
    server.close()
    tty = args.tty
    if tty and args.stdin and not sys.stdin.isatty():
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
        tty = False
    session = Session(server, stdin=args.stdin, tty=tty)
    path = pods.POD.path(namespace, pod["metadata"]["name"], "exec")
    with _raw_terminal(tty and args.stdin):
        code = asyncio.run(session.run(path, container, command_line))
    if code:
        if session.message and not args.quiet:
            print(session.message, file=sys.stderr)
        raise Exit(code)


def _cut(argv: list[str]) -> tuple[list[str], list[str]]:
    """Flags and pod, and the command after `--`."""
    if "--" not in argv:
        return argv, []
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


class Session:
    """One command: bytes between the terminal and the channels, and the exit code in the end."""

    def __init__(self, server: Server, *, stdin: bool, tty: bool) -> None:
        self._server = server
        self._stdin = stdin
        self._tty = tty
        self.message = ""

    async def run(self, path: str, container: str, command: list[str]) -> int:
        import aiohttp

        config = self._server.config
        query = [("container", container), *(("command", word) for word in command)]
        streams = {"stdin": self._stdin, "stdout": True, "stderr": not self._tty, "tty": self._tty}
        query += [(name, "true") for name, on in streams.items() if on]
        context: Any = tls_context(config) if config.server.startswith("https") else False
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(
                    config.server + path,
                    params=query,
                    protocols=(V5, V4),
                    headers=self._server.authorization(),
                    ssl=context,
                    max_msg_size=0,
                    heartbeat=30,
                ) as socket,
            ):
                return await self._talk(socket)
        except aiohttp.WSServerHandshakeError as err:
            raise await self._refusal(config.server + path, query, context, err) from err
        except (aiohttp.ClientError, OSError) as err:
            raise self._server.target.unreachable(str(err)) from err

    async def _refusal(self, url: str, query: Any, context: Any, err: Any) -> ApiError:
        """A handshake's error has no body: ask again without an upgrade to learn what is wrong."""
        import aiohttp

        with contextlib.suppress(aiohttp.ClientError, ValueError, OSError):
            async with (
                aiohttp.ClientSession() as http,
                http.get(url, params=query, headers=self._server.authorization(), ssl=context) as response,
            ):
                status = json.loads(await response.read())
                if status.get("kind") == "Status" and response.status == err.status:
                    return ApiError.from_status(status)
        return ApiError(err.message, code=err.status, reason="InternalError" if err.status == 500 else "BadRequest")

    async def _talk(self, socket: Any) -> int:
        import aiohttp

        async with contextlib.AsyncExitStack() as stack:
            if self._stdin:
                stack.callback(asyncio.create_task(self._send_input(socket), name="stdin").cancel)
            if self._tty:
                self._follow_size(socket)
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                    continue
                channel, data = message.data[0], message.data[1:]
                if channel == ERROR:
                    return self._exit_code(data)
                if channel in (STDOUT, STDERR) and data:
                    _write(1 if channel == STDOUT else 2, data)
        raise ClusterError("the connection to the container was lost before its command ended")

    async def _send_input(self, socket: Any) -> None:
        pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)
        loop = asyncio.get_running_loop()
        # No executor: it would be waited for at the end, and the terminal may never send another byte.
        threading.Thread(target=_read_input, args=(loop, pieces), daemon=True).start()
        while piece := await pieces.get():
            await socket.send_bytes(bytes([STDIN]) + piece)
        if socket.protocol == V5:
            await socket.send_bytes(bytes([CLOSE, STDIN]))

    def _follow_size(self, socket: Any) -> None:
        """Tell the terminal's size now and whenever it changes."""
        tasks: set[asyncio.Task[None]] = set()

        def tell() -> None:
            columns, rows = os.get_terminal_size(sys.stdout.fileno()) if sys.stdout.isatty() else (80, 24)
            data = bytes([RESIZE]) + json.dumps({"Width": columns, "Height": rows}).encode()
            task = asyncio.ensure_future(socket.send_bytes(data))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, tell)
        tell()

    def _exit_code(self, data: bytes) -> int:
        """The Status on the error channel: Success, or how the command ended."""
        status = json.loads(data)
        if status.get("status") == "Success":
            return 0
        for cause in (status.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                self.message = f"command terminated with exit code {cause['message']}"
                return int(cause["message"])
        self.message = f"error: {status.get('message') or 'the command failed'}"
        return 1


def _read_input(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[bytes]) -> None:
    """Pass standard input on, no faster than it is sent; b"" is its end."""
    piece = b"."
    with contextlib.suppress(RuntimeError):  # the command ended, and with it the loop
        while piece:
            piece = os.read(0, PIECE)
            asyncio.run_coroutine_threadsafe(pieces.put(piece), loop).result()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    """Every key goes to the command: the terminal's own handling is off, and on again afterwards."""
    if not wanted:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSANOW)  # what was typed ahead is kept
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
