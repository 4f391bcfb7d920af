"""Volumes on the node's disk: folders, atomic updates, tmpfs, and safe ways into a volume.

    ROOT/pods/UID/etc/{hosts,resolv.conf}                     bound into every container
    ROOT/pods/UID/volumes/kubernetes.io~KIND/NAME             one folder a volume
    ROOT/pods/UID/subpaths/CONTAINER/INDEX                    mounts of what a subPath leads to
    ROOT/pods/UID/containers/NAME/RESTART_COUNT               the termination message

Everything here blocks; call it in a thread where it may take long. Secrets lie on disk below a folder that only root
may enter; put --root-dir on a tmpfs to keep them off the disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import struct
import time
from pathlib import Path

from kubarium.machinery import objects
from kubarium.machinery.quantity import whole
from kubelet.volumes import File, Payload, VolumeError, has_files

DATA = "..data"
MNT_DETACH = 2
MS_BIND = 0x1000
OPENAT2, O_PATH = 437, 0o10000000
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
HOST_PATH_CHECKS = {
    "Directory": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}
_libc = ctypes.CDLL(None, use_errno=True)


class PodFolder:
    """The folder of one pod below the kubelet's root."""

    def __init__(self, root: Path, uid: str) -> None:
        self.path = root / "pods" / uid

    def volume(self, volume: objects.Volume) -> Path:
        return self.path / "volumes" / f"kubernetes.io~{volume_kind(volume)}" / volume.name

    def etc(self, name: str) -> Path:
        return self.path / "etc" / name

    def termination_message(self, container: str, restart_count: int) -> Path:
        return self.path / "containers" / container / str(restart_count)

    def sub_path(self, container: str, index: int) -> Path:
        return self.path / "subpaths" / container / str(index)

    def make(self) -> None:
        """The folders that each pod has; only root may enter them from outside."""
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        for folder in ("etc", "volumes", "containers"):
            (self.path / folder).mkdir(mode=0o750, parents=True, exist_ok=True)

    def write_etc(self, name: str, text: str) -> Path:
        """Written in place: a bind mount holds the file, not its name."""
        path = self.etc(name)
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with path.open("r+" if path.exists() else "w") as file:
            file.write(text)
            file.truncate()
        path.chmod(0o644)
        return path

    def make_termination_message(self, container: str, restart_count: int) -> Path:
        path = self.termination_message(container, restart_count)
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o666)
        return path

    def remove(self) -> None:
        """Unmount what is mounted below, then delete; no error where it is gone."""
        for target in mounts_below(self.path):
            unmount(Path(target))
        shutil.rmtree(self.path, ignore_errors=True)


def volume_kind(volume: objects.Volume) -> str:
    kinds = (
        ("configmap", volume.config_map),
        ("secret", volume.secret),
        ("projected", volume.projected),
        ("downward-api", volume.downward_api),
        ("host-path", volume.host_path),
    )
    return next((name for name, source in kinds if source is not None), "empty-dir")


def set_up_folder(folder: PodFolder, volume: objects.Volume, fs_group: int | None) -> Path:
    """The path that a volume's mounts bind; made where it is missing.

    Raises VolumeError for a hostPath that does not fit its type.
    """
    if volume.host_path is not None:
        return _host_path(volume.host_path)
    path = folder.volume(volume)
    if has_files(volume):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return path
    fresh = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    if volume.empty_dir is not None and volume.empty_dir.medium == "Memory" and not os.path.ismount(path):
        options = "mode=0777" + (f",size={whole(volume.empty_dir.size_limit)}" if volume.empty_dir.size_limit else "")
        if _libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, options.encode()) != 0:
            raise VolumeError(f"cannot mount a tmpfs: {os.strerror(ctypes.get_errno())}")
        fresh = True
    if fresh:
        path.chmod(0o777 if fs_group is None else 0o2777)
        if fs_group is not None:
            os.chown(path, -1, fs_group)
    return path


def _host_path(source: objects.HostPathVolumeSource) -> Path:
    path = Path(source.path)
    if source.type == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif source.type == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    if check := HOST_PATH_CHECKS.get(source.type.removesuffix("OrCreate")):
        try:
            fits = check[0](path.stat().st_mode)
        except FileNotFoundError:
            fits = False
        if not fits:
            raise VolumeError(f"hostPath type check failed: {source.path} is not a {check[1]}")
    return path


def write_files(target: Path, files: Payload, *, gid: int | None = None) -> bool:
    """Make `target` show exactly these files, all at once: readers see the old set or the new one, never a mixture.

    The files lie in a folder with a time in its name, `..data` points to it and is swapped by rename; what is visible
    are links through it. With `gid` the group may do what the owner may. True if anything changed.
    Source: the layout that upstream's volumes have.
    """
    files = {name: File(file.data, _mode(file.mode, gid)) for name, file in files.items()}
    if _shown(target) == files:
        return False
    folder = target / time.strftime(f"..%Y_%m_%d_%H_%M_%S.{time.monotonic_ns() % 10**10:010d}", time.gmtime())
    folder.mkdir(mode=0o755)
    for name, file in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)
        if gid is not None:
            os.chown(path, -1, gid)
    old = target / DATA
    previous = old.resolve() if old.is_symlink() else None
    swap = target / "..data_tmp"
    swap.unlink(missing_ok=True)
    swap.symlink_to(folder.name)
    swap.rename(old)
    tops = {name.split("/", 1)[0] for name in files}
    for top in tops:
        if not (target / top).is_symlink():
            (target / top).symlink_to(f"{DATA}/{top}")
    for entry in target.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if previous is not None:
        shutil.rmtree(previous, ignore_errors=True)
    return True


def _mode(mode: int, gid: int | None) -> int:
    return mode if gid is None else mode | (mode & 0o600) >> 3


def _shown(target: Path) -> dict[str, File] | None:
    """What the volume shows now; None before the first write."""
    data = target / DATA
    if not data.is_symlink():
        return None
    folder = data.resolve()
    return {
        str(path.relative_to(folder)): File(path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


def mount_sub_path(base: Path, sub_path: str, target: Path) -> None:
    """Bind `sub_path` of a volume to `target`; no link in the volume can lead out of it.

    A folder is made where nothing is. The engine could not take a descriptor of ours as the source: what is opened here
    belongs to this mount namespace, so it is mounted here. Raises VolumeError. Source: openat2(2).
    """
    try:
        fd = _open_beneath(base, sub_path)
    except OSError as err:
        text = "leads out of the volume" if err.errno in (errno.EXDEV, errno.ELOOP) else str(err.strerror)
        raise VolumeError(f'failed to prepare subPath "{sub_path}": {text}') from err
    try:
        unmount(target)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            target.mkdir(mode=0o750, parents=True, exist_ok=True)
        else:
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            target.touch()
        if _libc.mount(f"/proc/self/fd/{fd}".encode(), os.fsencode(target), None, MS_BIND, None) != 0:
            raise VolumeError(f'failed to mount subPath "{sub_path}": {os.strerror(ctypes.get_errno())}')
    finally:
        os.close(fd)


def unmount(target: Path) -> None:
    """Take the mounts at `target` away, as many as lie there; none is no error."""
    while _libc.umount2(os.fsencode(target), MNT_DETACH) == 0:
        pass


def _open_beneath(base: Path, sub_path: str) -> int:
    root = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            return _openat2(root, sub_path, O_PATH)
        parts, made = Path(sub_path).parts, ""
        for part in parts:
            parent = _openat2(root, made or ".", O_PATH | os.O_DIRECTORY)
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=parent)
            finally:
                os.close(parent)
            made = f"{made}/{part}" if made else part
        return _openat2(root, sub_path, O_PATH)
    finally:
        os.close(root)


def _openat2(directory: int, path: str, flags: int) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    fd: int = _libc.syscall(OPENAT2, directory, os.fsencode(path), how, len(how))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below a folder, deepest first."""
    prefix = str(folder)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    return sorted((p for p in points if p == prefix or p.startswith(prefix + "/")), reverse=True)
