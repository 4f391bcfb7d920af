"""`kubarium api`: an API server alone, in the foreground, for tests of clients and controllers (as envtest is for Go).

The server makes its own certificates; store, keys and kubeconfig are in a temporary folder that goes with it (also
after kill -9: the next one removes it). With controllers the ones that need no node run beside it, in a process that
ends with this one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kubarium.machinery.errors import ConfigError

if TYPE_CHECKING:
    from apiserver.assembly import Running
    from apiserver.config import Config

NEEDS_NODES = ("node-ipam-controller", "node-lifecycle-controller", "taint-eviction-controller")
STOP_S = 5.0
START_S = 15.0  # a store that does not answer by then is not waited for


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    text = "Start an API server alone: no nodes, no pods run. It ends with Ctrl-C and leaves nothing behind."
    parser = argparse.ArgumentParser("kubarium api", description=text)
    add = parser.add_argument
    add("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    add("--token", default=None, help="bearer token of the administrator (default: made at random)")
    add("--store", default="", help="sqlite:///PATH or etcd://HOST:PORT[,...] (default: SQLite in a temporary folder)")
    add("--write-kubeconfig", default="", metavar="FILE", help="also write the administrator's kubeconfig there")
    add("--with-controllers", action="store_true", help="also garbage collection, namespace deletion, Deployments, ...")
    add("--log-level", default="warning", help="debug, info, warning or error (default: warning)")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT; gives the exit code: 2, with one line, for what cannot be started."""
    begun = time.perf_counter()
    args = parse_args(argv)
    from apiserver.config import parse_config
    from kubarium.machinery.process import EXIT_CONFIG, run_component

    try:
        config = parse_config(server_flags(args))
    except ConfigError as err:
        print(f"kubarium api: {str(err).replace('--secure-port', '--port')}", file=sys.stderr)
        return EXIT_CONFIG
    return run_component("kubarium api", lambda: serve(args, config, begun), log_level=args.log_level)


def server_flags(args: argparse.Namespace) -> list[str]:
    """The flags of `python -m apiserver` for these wishes. Raises ConfigError."""
    token = secrets.token_hex(16) if args.token is None else args.token
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"--token {token!r}: expected letters, digits and signs without spaces, or no such flag")
    flags = ["--secure-port", str(args.port), "--grpc-port", "0", "--token", token]
    flags += ["--store", args.store] if args.store else []
    flags += ["--enable-admission-plugins", "ServiceAccount"] if args.with_controllers else []
    flags += ["--write-kubeconfig", args.write_kubeconfig] if args.write_kubeconfig else []
    return [*flags, "--log-level", args.log_level]


async def serve(args: argparse.Namespace, config: Config, begun: float) -> None:
    from apiserver import assembly

    async def beside(running: Running) -> None:
        limit.reschedule(None)
        async with contextlib.AsyncExitStack() as stack:
            process = None
            if args.with_controllers:
                process = await stack.enter_async_context(controllers(running, args.log_level))
            seconds = time.perf_counter() - begun
            print(f"API server  {running.url}\ntoken       {config.token}\nkubeconfig  {running.kubeconfig}")
            print(f"Ready in {seconds:.2f} s. Ctrl-C ends it.", flush=True)
            await (ended(process) if process else asyncio.Event().wait())

    try:
        async with asyncio.timeout(START_S) as limit:
            await assembly.serve(config, beside)
    except TimeoutError as err:
        text = f"not ready after {START_S:.0f} s; does the store answer? --log-level info tells more"
        raise ConfigError(f"--store {args.store or 'in a temporary folder'}: {text}") from err


@asynccontextmanager
async def controllers(running: Running, log_level: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The controllers' process while the block runs."""
    chosen = ",".join(("*", *(f"-{name}" for name in NEEDS_NODES)))
    command = [sys.executable, "-m", "kubarium.controllers", "--kubeconfig", running.kubeconfig]
    command += ["--controllers", chosen, "--root-ca-file", running.ca, "--healthz-port", "0", "--log-level", log_level]
    keys = Path(running.ca)
    command += ["--cluster-signing-cert-file", running.ca, "--cluster-signing-key-file", str(keys.with_name("ca.key"))]
    command += ["--service-account-private-key-file", str(keys.with_name("sa.key"))]
    parent = os.getpid()
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, preexec_fn=lambda: end_with(parent)
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def end_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that ends."""
    from kubarium.cluster.namespaces import set_parent_death_signal

    set_parent_death_signal(signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the kernel knew
        os._exit(1)


async def ended(process: asyncio.subprocess.Process) -> None:
    """Raises ConfigError when the controllers end: without them the promise of the command is broken."""
    code = await process.wait()
    raise ConfigError(f"the controllers ended with code {code}; their last words are above")
