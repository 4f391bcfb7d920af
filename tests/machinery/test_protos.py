"""The generated gRPC code is what the contracts say today."""

from __future__ import annotations

from pathlib import Path

from kubarium.machinery import protogen


def test_generated_code_has_not_drifted_from_the_protos(tmp_path: Path) -> None:
    protogen.generate(tmp_path)
    fresh = {path.name: path.read_text() for path in (tmp_path / protogen.PACKAGE).iterdir()}
    committed = {
        path.name: path.read_text()
        for path in (protogen.ROOT / protogen.PACKAGE).iterdir()
        if path.is_file() and path.name != "__init__.py"
    }
    assert committed == fresh, "run `python -m kubarium.machinery.protogen` and commit the result"
