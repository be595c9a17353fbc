"""The runner copies a release from a local folder, too, and refuses one that is not what its release.json says."""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner.release_files import fetch_release

RELEASE = "20260101T000000Z-1111111"


def _release(projects: Path, current: str = RELEASE, **changes: Any) -> None:
    """Write a release of the project shop. `changes` are of its release.json."""
    folder = projects / "shop" / RELEASE
    files = {"models/a.sql": "select 1", "selections/audit.json": "{}", "workflows/CODE": "x"}
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    listed = [{"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest()} for path, text in files.items()]
    content = {"dbt_version": importlib.metadata.version("dbt-core"), "files": listed, **changes}
    (folder / "release.json").write_text(json.dumps(content))
    (projects / "shop" / "CURRENT").write_text(f"{current}\n")


def test_current_release_is_copied_without_the_files_for_airflow(tmp_path: Path) -> None:
    _release(tmp_path / "projects")
    assert fetch_release(None, str(tmp_path / "projects"), "shop", None, tmp_path / "target") == RELEASE
    copied = {path.relative_to(tmp_path / "target"): path.read_text() for path in (tmp_path / "target").rglob("*.*")}
    assert copied == {Path("models/a.sql"): "select 1"}


@pytest.mark.parametrize(
    ("current", "changes", "words"),
    [
        ("../../etc", {}, "'../../etc' is not the name of a release"),
        (RELEASE, {"files": [{"path": "../../x", "sha256": "0"}]}, "lists '../../x', which is outside of the release"),
        (RELEASE, {"files": [{"path": "/etc/passwd", "sha256": "0"}]}, "lists '/etc/passwd', which is outside"),
        (RELEASE, {"files": [{"path": "models/a.sql", "sha256": "0"}]}, "models/a.sql of release .* differs from its"),
        (RELEASE, {"files": [{"path": "models/b.sql", "sha256": "0"}]}, "models/b.sql cannot be read: No such file"),
        (RELEASE, {"files": None}, "release.json cannot be read .TypeError"),
        (RELEASE, {"dbt_version": "1.10.0"}, "was built with dbt 1.10.0. Build the image from the commit of the re"),
        ("20250101T000000Z-0000000", {}, "20250101T000000Z-0000000/release.json cannot be read: No such file"),
    ],
)
def test_wrong_release_is_refused(tmp_path: Path, current: str, changes: dict[str, Any], words: str) -> None:
    _release(tmp_path / "projects", current, **changes)
    with pytest.raises(PipelineError, match=words):
        fetch_release(None, str(tmp_path / "projects"), "shop", None, tmp_path / "target")
