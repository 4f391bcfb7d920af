"""Stand-ins for public images: names, contents, and the images themselves."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
from pathlib import Path

import pytest

from kubarium.cluster import images
from kubarium.cluster.dockerapi import CLUSTER_LABEL, DockerApi
from tests.cluster.conftest import eventually


@pytest.mark.parametrize(
    "name",
    ["nginx", "nginx:*", "library/nginx", "docker.io/nginx:*", "docker.io/library/nginx", "docker.io/library/nginx:*"],
)
def test_names_of_tutorials_lead_to_the_stand_in(name: str) -> None:
    assert images.alias_table(images.IMAGES, {"nginx"})[name] == "kubarium/nginx:latest"


def test_only_what_was_made_has_names() -> None:
    table = images.alias_table(images.IMAGES, {"busybox"})
    assert "busybox" in table and "nginx" not in table and "redis" not in table


def test_pause_is_named_as_its_registry_has_it() -> None:
    table = images.alias_table(images.IMAGES, {"pause"})
    assert table["registry.k8s.io/pause:*"] == "kubarium/pause:latest"
    assert "docker.io/library/registry.k8s.io/pause" not in table


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("Depends: libc6 (>= 2.34), zlib1g (>= 1:1.1.4)", ["libc6", "zlib1g"], id="libraries"),
        pytest.param("Depends: nginx-common (<< 1), iproute2, libpcre2-8-0", ["libpcre2-8-0"], id="no programs"),
        pytest.param("Pre-Depends: libc6\nDepends: libssl3t64", ["libc6", "libssl3t64"], id="both fields"),
        pytest.param("Depends: libnginx-mod-http-echo (>= 1), libc6", ["libc6"], id="modules are left out"),
        pytest.param("", [], id="none"),
    ],
)  # fmt: skip
def test_library_dependencies(text: str, names: list[str]) -> None:
    assert images.library_dependencies(text) == names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nginx", ("nginx", "latest")),
        ("nginx:1.27", ("nginx", "1.27")),
        ("localhost:5000/a/b", ("localhost:5000/a/b", "latest")),
        ("registry.k8s.io/pause:3.10", ("registry.k8s.io/pause", "3.10")),
    ],
)
def test_image_names_are_taken_apart(name: str, parts: tuple[str, str]) -> None:
    assert images.parse_image(name) == parts


def test_a_packed_root_belongs_to_root_and_has_no_times(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").write_text("x")
    archive = io.BytesIO()
    images.pack(tmp_path, archive)
    with tarfile.open(fileobj=archive) as tar:
        entries = {entry.name: (entry.uid, entry.gid, entry.mtime) for entry in tar}
    assert entries == {"bin": (0, 0, 0), "bin/sh": (0, 0, 0)}


@pytest.fixture
def made(docker: DockerApi) -> DockerApi:
    for key in images.missing(docker):
        images.provide(docker, images.IMAGES[key])
    return docker


def run_container(docker: DockerApi, image: str, *command: str) -> tuple[int, str]:
    """Exit code and output of a container without network."""
    config = {
        "Image": image,
        "Labels": {CLUSTER_LABEL: f"t-{secrets.token_hex(3)}"},
        "HostConfig": {"NetworkMode": "none"},
        "Tty": True,
    }
    container = str(docker.call("POST", "/containers/create", config | ({"Cmd": command} if command else {}))["Id"])
    try:
        docker.call("POST", f"/containers/{container}/start")
        answer = docker.call("POST", f"/containers/{container}/wait")
        return int(answer["StatusCode"]), str(docker.call("GET", f"/containers/{container}/logs", stdout="true"))
    finally:
        docker.remove(container)


def test_busybox_has_its_applets(made: DockerApi) -> None:
    code, text = run_container(made, images.BUSYBOX, "sh", "-c", "id -u; which wget nslookup; ls -d /tmp")
    assert code == 0 and text.split() == ["0", "/usr/bin/wget", "/usr/bin/nslookup", "/tmp"]


@pytest.mark.parametrize("flags", ["-T 1 -qO-", "-qO- -T1", "-q --timeout=1 -O-", "-q -O -"])
def test_wget_takes_a_timeout_in_every_form(made: DockerApi, flags: str) -> None:
    code, text = run_container(made, images.BUSYBOX, "sh", "-c", f"wget {flags} http://127.0.0.1:1/")
    assert code == 1 and "Connection refused" in text


def test_wget_gives_up_when_its_time_is_over(made: DockerApi) -> None:
    script = "sleep 9 | nc -l -p 80 & sleep 0.2; wget -T 1 -qO- http://127.0.0.1/"
    code, text = run_container(made, images.BUSYBOX, "sh", "-c", script)
    assert code == 1 and "download timed out" in text


def test_busybox_looks_up_names(made: DockerApi) -> None:
    code, text = run_container(made, images.BUSYBOX, "sh", "-c", "wget -T 1 -qO- http://localhost:1/")
    assert code == 1 and "Connection refused" in text


def test_nginx_takes_its_configuration_as_the_official_image_does(made: DockerApi) -> None:
    code, text = run_container(
        made, images.NGINX, "sh", "-c", "nginx -t 2>&1 && ls /etc/nginx/conf.d /usr/share/nginx/html"
    )
    assert code == 0, text
    assert "default.conf" in text and "index.html" in text


def test_nginx_serves_its_welcome_page(made: DockerApi) -> None:
    script = "nginx; for i in 1 2 3 4 5; do wget -qO- http://127.0.0.1/ && exit 0; sleep 0.2; done; exit 1"
    code, text = run_container(made, images.NGINX, "sh", "-c", script)
    assert code == 0 and "Welcome to nginx!" in text


def test_pause_waits_and_ends_on_sigterm(made: DockerApi) -> None:
    config = {"Image": images.PAUSE, "Labels": {CLUSTER_LABEL: "t-pause"}, "HostConfig": {"NetworkMode": "none"}}
    container = str(made.call("POST", "/containers/create", config)["Id"])
    try:
        made.call("POST", f"/containers/{container}/start")
        state = made.inspect(container)
        assert state is not None and state["State"]["Running"]
        made.call("POST", f"/containers/{container}/kill", signal="TERM")
        eventually(lambda: not (made.inspect(container) or {})["State"]["Running"], "pause ends", limit_s=5)
    finally:
        made.remove(container)


def test_the_alias_file_names_what_the_engine_holds(made: DockerApi, tmp_path: Path) -> None:
    path = tmp_path / "images" / "aliases.json"
    images.write_aliases(path, made)
    table = json.loads(path.read_text())
    assert table["busybox:*"] == "kubarium/busybox:latest"
    before = path.stat().st_mtime_ns
    images.write_aliases(path, made)
    assert path.stat().st_mtime_ns == before
