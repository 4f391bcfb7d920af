"""Where objects are kept: etcd or SQLite behind one interface (`apiserver.store.base.Store`)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from apiserver.store.base import Store
from kubarium.machinery.errors import ConfigError


def open_store(url: str) -> Store:
    """The store of a --store URL: `sqlite:///path/to/file` or `etcd://host:port[,host:port]`.

    Raises ConfigError for anything else, StoreUnavailable when a file cannot be opened. An etcd is not asked yet.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and parts.path not in ("", "/"):
        from apiserver.store.sqlite import SqliteStore  # each store brings libraries of its own

        return SqliteStore(Path(parts.path))
    if parts.scheme == "etcd" and parts.netloc:
        from apiserver.store.etcd import EtcdStore

        return EtcdStore(parts.netloc.split(","))
    raise ConfigError(
        f"--store {url}: not a store; expected sqlite:///path/to/file or etcd://host:port[,host:port],"
        " for example sqlite:///var/lib/kubarium/store.db"
    )
