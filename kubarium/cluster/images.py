"""Base images: pulled where a registry answers, else stand-ins made from Debian packages.

A stand-in is a minimal root file system out of the packages' own files: static catatonit for `pause`, busybox and
nginx with the libraries they need. An alias file tells the kubelet which names of tutorials a stand-in takes; any other
name fails to pull, as it should.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubarium.cluster.dockerapi import DockerApi
from kubarium.machinery.errors import ClusterError, ConfigError, ContainerError

PAUSE = "kubarium/pause"
BUSYBOX = "kubarium/busybox"
NGINX = "kubarium/nginx"
TAG = "latest"
RECIPE_LABEL = "io.kubarium.recipe"
RECIPES = "7"  # of all stand-ins together; raised when one changes, so that older ones are made anew


@dataclass(frozen=True, slots=True)
class StandIn:
    """An image of ours: what it is pulled as, what it is made of, and the names it answers to.

    `layout` picks files out of the unpacked packages; `libraries`: those of the packages' dependencies too. One that
    `bootstraps` is a whole small Debian instead.
    """

    repository: str
    public: str
    packages: tuple[str, ...]
    layout: Callable[[Path, Path], None]
    changes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    libraries: bool = False
    bootstraps: bool = False

    @property
    def image(self) -> str:
        return f"{self.repository}:{TAG}"


def alias_table(images: Mapping[str, StandIn], made: set[str]) -> dict[str, str]:
    """The alias file: every name that a made stand-in answers to, in each of the forms that manifests use."""
    table = {}
    for key in sorted(made):
        for name in images[key].names:
            forms = [name]
            if "/" not in name:
                forms += [f"docker.io/library/{name}", f"library/{name}", f"docker.io/{name}"]
            for form in forms:
                table[form] = table[f"{form}:*"] = images[key].image
    return table


def missing(docker: DockerApi, images: Mapping[str, StandIn] | None = None) -> list[str]:
    """Keys of the images that the engine does not hold, or holds as an older recipe made them."""
    found = {key: docker.image_labels(image.image) for key, image in (images or IMAGES).items()}
    return [key for key, labels in found.items() if labels is None or labels.get(RECIPE_LABEL, RECIPES) != RECIPES]


def provide(docker: DockerApi, image: StandIn) -> str:
    """Pull or make one image. Returns how it came: `pulled` or `made from Debian packages`.

    Raises ClusterError with both reasons when neither works.
    """
    reason = _try_pull(docker, image)
    if not reason:
        return "pulled"
    try:
        make(docker, image)
    except (ClusterError, OSError) as err:
        raise ClusterError(f"image {image.image}: cannot be pulled ({reason}) nor made: {err}") from err
    return "made from Debian packages"


def make(docker: DockerApi, image: StandIn) -> None:
    """Make a stand-in from packages and hand it to the engine as one layer."""
    with tempfile.TemporaryDirectory(prefix="kubarium-image-") as scratch:
        if image.bootstraps:
            tar = Path(scratch, "root.tar")
            run("mmdebstrap", "--variant=minbase", f"--include={','.join(image.packages)}", suite(), str(tar))
            with tar.open("rb") as whole:
                docker.import_image(image.repository, TAG, whole, _changes(image))
            return
        files, root = Path(scratch, "files"), Path(scratch, "root")
        download = Path(scratch, "packages")
        for folder in (files, root, download):
            folder.mkdir()
        for package in fetch_packages(image.packages, download, libraries=image.libraries):
            run("dpkg-deb", "-x", str(package), str(files))
        image.layout(files, root)
        with tempfile.TemporaryFile() as archive:
            pack(root, archive)
            docker.import_image(image.repository, TAG, archive, _changes(image))


def _changes(image: StandIn) -> list[str]:
    return [*image.changes, f"LABEL {RECIPE_LABEL}={RECIPES}"]


def suite(os_release: str | None = None) -> str:
    """The Debian or Ubuntu release of this machine, whose packages make a base image. Raises ConfigError elsewhere."""
    text = Path("/etc/os-release").read_text() if os_release is None else os_release
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', text, re.MULTILINE)
    if found is None:
        raise ConfigError("a base image can be made on Debian and Ubuntu only; elsewhere it must be pulled")
    return found[1]


def pack(root: Path, archive: io.IOBase | tempfile._TemporaryFileWrapper[bytes]) -> None:
    """Write a folder as a tar whose files all belong to root and carry no time, ready to be read."""

    def anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mtime = 0
        return info

    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(root.iterdir()):
            tar.add(path, path.name, filter=anonymous)
    archive.seek(0)


def fetch_packages(names: tuple[str, ...], folder: Path, *, libraries: bool = False) -> list[Path]:
    """Download Debian packages without installing them; with the libraries they depend on, if asked.

    Raises ClusterError with apt's own words.
    """
    wanted, have = list(names), {}
    while wanted:
        name = wanted.pop(0)
        if name in have:
            continue
        before = set(folder.iterdir())
        _apt_download(name, folder)
        (package,) = set(folder.iterdir()) - before
        have[name] = package
        if libraries:
            depends = run("dpkg-deb", "-f", str(package), "Pre-Depends", "Depends")
            wanted += library_dependencies(depends)
    return list(have.values())


def library_dependencies(text: str) -> list[str]:
    """Names of the shared libraries in a package's dependency fields; programs and alternatives are left out."""
    names = re.findall(r"(?:^|[,:])\s*((?:lib|zlib)[a-z0-9.+-]+)", text, re.MULTILINE)
    return [name for name in names if not name.startswith("libnginx-mod")]


def run(*argv: str, timeout_s: float = 600) -> str:
    """Run a program of the system. Raises ClusterError with its last words."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError:
        raise ClusterError(f"{argv[0]} is not installed on this machine") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise ClusterError(f"{' '.join(argv[:3])}: {words[-1]}")
    return done.stdout


def parse_image(name: str) -> tuple[str, str]:
    """`registry:5000/a/b:tag` to (repository, tag)."""
    head, _, last = name.rpartition("/")
    base, _, tag = last.partition(":")
    return (f"{head}/{base}" if head else base), tag or "latest"


def write_aliases(path: Path, docker: DockerApi) -> None:
    """Write the alias file for the stand-ins that the engine holds."""
    made = {key for key in IMAGES if docker.image_labels(IMAGES[key].image) is not None}
    text = json.dumps(alias_table(IMAGES, made), indent=2, sort_keys=True) + "\n"
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)


def _apt_download(name: str, folder: Path) -> None:
    command = (
        "sh",
        "-c",
        'cd "$1" && exec apt-get download -qq -o APT::Sandbox::User=root "$2"',
        "sh",
        str(folder),
        name,
    )
    try:
        run(*command)
    except ClusterError:
        run("apt-get", "update", "-qq")  # a fresh machine has no package lists
        run(*command)


def _try_pull(docker: DockerApi, image: StandIn) -> str:
    """Pull and tag. Returns "" or why it did not work."""
    repository, tag = parse_image(image.public)
    try:
        docker.pull(repository, tag, timeout_s=300)
        docker.tag(f"{repository}:{tag}", image.repository, TAG)
    except ContainerError as err:
        return str(err)
    return ""


# --- what goes into each


def _copy(files: Path, root: Path, *names: str, to: str = "") -> None:
    """Copy files or folders by their path inside the packages; `usr/` is added where a package has merged it."""
    for name in names:
        source = files / name if (files / name).exists() else files / "usr" / name
        if not source.exists():
            raise ConfigError(f"the Debian packages hold no {name}")
        target = root / (to or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        run("cp", "-a", str(source), str(target))


def _lay_pause(files: Path, root: Path) -> None:
    _copy(files, root, "usr/bin/catatonit", to="pause")


def _lay_busybox(files: Path, root: Path) -> None:
    for folder in ("etc", "home", "proc", "root", "sys", "tmp", "var/run"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    _copy(files, root, "bin/busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    for applet in run(str(root / "bin/busybox"), "--list").split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "bin/wget").unlink()
    (root / "bin/wget").write_text(_WGET)
    (root / "bin/wget").chmod(0o755)
    (root / "usr").mkdir()
    (root / "usr/bin").symlink_to("../bin")
    (root / "sbin").symlink_to("bin")
    _copy_libraries(files, root)


def _copy_libraries(files: Path, root: Path) -> None:
    for library in [
        *files.glob("lib/*/*.so*"),
        *files.glob("usr/lib/*/*.so*"),
        *files.glob("lib64/*"),
        *files.glob("usr/lib64/*"),
    ]:
        _copy(files, root, str(library.relative_to(files)))
    _merge_library_folders(root)


def _lay_nginx(files: Path, root: Path) -> None:
    _lay_busybox(files, root)
    (root / "usr/sbin").mkdir()
    _copy(files, root, "usr/sbin/nginx", "etc/nginx/mime.types", "usr/share/nginx/html")
    (root / "etc/nginx/nginx.conf").write_text(_NGINX_CONF)
    (root / "etc/nginx/conf.d").mkdir()
    (root / "etc/nginx/conf.d/default.conf").write_text(_NGINX_DEFAULT)
    (root / "usr/share/nginx/html/index.html").write_text(_NGINX_WELCOME)
    for folder in ("run", "var/log/nginx", "var/lib/nginx", "var/cache/nginx"):
        (root / folder).mkdir(parents=True)
    (root / "var/log/nginx/access.log").symlink_to("/dev/stdout")
    (root / "var/log/nginx/error.log").symlink_to("/dev/stderr")
    with (root / "etc/passwd").open("a") as passwd, (root / "etc/group").open("a") as group:
        passwd.write("nginx:x:101:101:nginx:/var/cache/nginx:/bin/false\n")
        group.write("nginx:x:101:\n")


def _lay_etcd(files: Path, root: Path) -> None:
    _copy(files, root, "usr/bin/etcd")
    (root / "tmp").mkdir(mode=0o1777)
    _copy_libraries(files, root)


def _lay_nothing(_: Path, __: Path) -> None:
    """A bootstrapped image is complete as it is."""


def _merge_library_folders(root: Path) -> None:
    """The loader looks in /lib and /usr/lib alike; the program's own interpreter is asked for in /lib64."""
    loaders = [*root.glob("lib/*/ld-linux*"), *root.glob("usr/lib/*/ld-linux*")]
    lib64 = root / "lib64"
    if lib64.exists() and any(path.is_symlink() and not path.exists() for path in lib64.iterdir()):
        run("rm", "-rf", str(lib64))
    lib64.mkdir(exist_ok=True)
    for loader in loaders:
        if not (lib64 / loader.name).exists():
            (lib64 / loader.name).symlink_to("/" + str(loader.relative_to(root)))


# For busybox 1.35 of Debian 12, which is built without time limits for wget: -T ends in a segmentation fault.
_WGET = """\
#!/bin/sh
limit= left=$#
while [ $left -gt 0 ]; do
    word=$1; shift; left=$((left - 1))
    case $word in
        -T|--timeout) limit=$1; shift; left=$((left - 1)) ;;
        -T*) limit=${word#-T} ;;
        --timeout=*) limit=${word#--timeout=} ;;
        *) set -- "$@" "$word" ;;
    esac
done
[ -n "$limit" ] || exec busybox wget "$@"
timeout "$limit" busybox wget "$@"
code=$?
[ $code != 143 ] || { echo "wget: download timed out" >&2; exit 1; }
exit $code
"""

_NGINX_CONF = """\
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log combined;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""

_NGINX_DEFAULT = """\
server {
    listen 80;
    listen [::]:80;
    server_name localhost;

    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
"""

_NGINX_WELCOME = """\
<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>The web server is installed and working. This image was made by kubarium from Debian packages.</p>
</body>
</html>
"""

_PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

IMAGES: dict[str, StandIn] = {
    "pause": StandIn(
        PAUSE,
        "registry.k8s.io/pause:3.10",
        ("catatonit",),
        _lay_pause,
        ('ENTRYPOINT ["/pause", "-P"]',),
        ("registry.k8s.io/pause", "k8s.gcr.io/pause"),
    ),
    "busybox": StandIn(
        BUSYBOX,
        "docker.io/library/busybox:latest",
        ("busybox",),  # not busybox-static: its shell runs the applets of its own, never our wget
        _lay_busybox,
        ('CMD ["sh"]', _PATH),
        ("busybox", "registry.k8s.io/e2e-test-images/busybox"),
        libraries=True,
    ),
    "nginx": StandIn(
        NGINX,
        "docker.io/library/nginx:latest",
        ("nginx", "nginx-common", "busybox"),
        _lay_nginx,
        (
            'CMD ["nginx", "-g", "daemon off;"]',
            _PATH,
            "EXPOSE 80",
        ),
        ("nginx",),
        libraries=True,
    ),
}

# What the Compose file builds on and with.
COMPOSE_IMAGES: dict[str, StandIn] = {
    "python": StandIn(
        "kubarium/python",
        "docker.io/library/python:3.11-slim",
        ("python3", "python3-venv", "libnftables1", "ca-certificates"),
        _lay_nothing,
        bootstraps=True,
    ),
    "etcd": StandIn(
        "kubarium/etcd",
        "quay.io/coreos/etcd:v3.5.17",
        ("etcd-server",),
        _lay_etcd,
        ('CMD ["etcd"]', _PATH),
        libraries=True,
    ),
}
