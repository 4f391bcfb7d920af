"""What the machine can do today: nginx, TLS, a static file of 1 KB, asked by the same load generator."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from benchmarks.lab import requests_per_second, run, wait_until
from benchmarks.start import answers

PORT = 18443
NGINX = """
worker_processes 2; daemon off; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  ssl_certificate {folder}/crt; ssl_certificate_key {folder}/key;
  server {{ listen 127.0.0.1:{port} ssl; root {folder}; }}
  server {{ listen 127.0.0.1:{plain}; root {folder}; }}
}}
"""


def yardstick() -> float:
    """Requests per second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "one.txt").write_text("x" * 1024)
        (folder / "index.html").write_text("x")
        key = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}/key", "-out", f"{name}/crt"]
        run(["openssl", "req", "-x509", *key, "-days", "2", "-subj", "/CN=localhost"])
        (folder / "conf").write_text(NGINX.format(folder=name, port=PORT, plain=PORT + 1))
        server = subprocess.Popen(["nginx", "-c", f"{name}/conf"])
        try:
            wait_until(lambda: answers("127.0.0.1", PORT + 1))
            return requests_per_second(run(["wrk", "-t2", "-c32", "-d4s", f"https://127.0.0.1:{PORT}/one.txt"]))
        finally:
            server.terminate()
            server.wait()
