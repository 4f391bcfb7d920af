"""How every component starts and stops: logging, event loop, signals, exit codes, health port."""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kubarium.machinery.errors import ConfigError

if TYPE_CHECKING:
    from aiohttp import web

    from kubarium.machinery.informer import Informer

Ready = Callable[[], bool] | Mapping[str, Callable[[], bool]]

EXIT_FAILURE = 1
EXIT_CONFIG = 2


class _OneLine(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO kubelet message`; a traceback follows on lines of its own."""

    def __init__(self, component: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ %(levelname)s {component} %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime


def setup_logging(name: str, log_level: str = "info") -> None:
    """Log to standard error. Raises ConfigError for an unknown level."""
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise ConfigError(f"--log-level {log_level}: expected debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(name))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("asyncio", "aiohttp.access", "grpc._cython.cygrpc", "docker", "urllib3", "pyroute2"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def run_component(name: str, main: Callable[[], Coroutine[Any, Any, Any]], *, log_level: str = "info") -> int:
    """Run `main` on a fresh uvloop until it ends or a SIGTERM or SIGINT cancels it; gives the exit code.

    0 for a wanted end, 2 with one line on standard error for a ConfigError, 1 with a traceback for anything else.
    """
    import uvloop

    try:
        setup_logging(name, log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(main))
    except BaseException as err:
        return _exit_code(name, err)
    return 0


async def _until_signal(main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise


def _exit_code(name: str, err: BaseException) -> int:
    leaves = list(_leaves(err))
    configs = [leaf for leaf in leaves if isinstance(leaf, ConfigError)]
    if configs:
        print(f"{name}: {configs[0]}", file=sys.stderr, flush=True)
        return EXIT_CONFIG
    if len(leaves) == 1 and isinstance(leaves[0], SystemExit):
        code = leaves[0].code
        return code if isinstance(code, int) else int(code is not None)
    logging.getLogger(__name__).critical("stopped by an error", exc_info=err)
    return EXIT_FAILURE


def _leaves(err: BaseException) -> Iterator[BaseException]:
    """The errors inside the groups that TaskGroups make."""
    if isinstance(err, BaseExceptionGroup):
        for inner in err.exceptions:
            yield from _leaves(inner)
    else:
        yield err


async def serve_health(host: str, port: int, *, ready: Ready, name: str = "") -> None:
    """Serve /healthz, /livez, /readyz and /metrics until cancelled; raises ConfigError where the port is taken.

    /readyz answers 200 `ok` once every check holds, else 503 and a line per check, as Kubernetes components do.
    """
    from aiohttp import web

    checks = ready if isinstance(ready, Mapping) else {"ready": ready}
    app = web.Application()
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/livez", _alive)
    app.router.add_get("/readyz", functools.partial(_readyz, checks))
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, reuse_address=True).start()
        except OSError as err:
            raise ConfigError(f"health port {host}:{port} of {name or 'this component'}: {err.strerror}") from err
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _alive(_: web.Request) -> web.Response:
    from aiohttp import web

    return web.Response(text="ok")


async def _readyz(checks: Mapping[str, Callable[[], bool]], request: web.Request) -> web.Response:
    from aiohttp import web

    results = {name: check() for name, check in checks.items()}
    lines = [f"[+]{name} ok" if good else f"[-]{name} failed: reason withheld" for name, good in results.items()]
    if not all(results.values()):
        return web.Response(status=503, text="\n".join([*lines, "readyz check failed"]) + "\n")
    return web.Response(text="\n".join([*lines, "readyz check passed"]) + "\n" if "verbose" in request.query else "ok")


async def _metrics(_: web.Request) -> web.Response:
    from aiohttp import web
    from prometheus_client import generate_latest

    return web.Response(body=generate_latest(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def wait_synced(*informers: Informer[Any]) -> None:
    """Return when every informer has its first list: before that no plan may be made."""
    for informer in informers:
        await informer.synced()


def common_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that every component takes."""
    parser.add_argument("--kubeconfig", default="", help="file with server and credentials (default: in-cluster)")
    parser.add_argument("--api-transport", choices=("auto", "grpc", "rest"), default="auto")
    parser.add_argument("--log-level", default="info", help="debug, info, warning or error")
