"""`make site` generates the reference from the code and fails on a broken link."""

import shutil
import subprocess
import sys
from pathlib import Path

from mwaa_local.settings import REPOSITORY
from workbench import reference


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    zensical = Path(sys.executable).with_name("zensical")
    return subprocess.run(
        [zensical, "build", "--strict", "--clean"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_links_resolve_and_the_reference_is_written(tmp_path):
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("reference"))
    shutil.copy(REPOSITORY / "zensical.toml", tmp_path)
    reference.write(tmp_path / "docs" / "reference")
    completed = build(tmp_path)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    site = tmp_path / ".local" / "site"
    pages = {path.relative_to(tmp_path / "docs").with_suffix(".html") for path in (tmp_path / "docs").rglob("*.md")}
    assert [page for page in pages if not (site / page).is_file()] == []
    assert "https://fonts" not in (site / "index.html").read_text()

    (tmp_path / "docs" / "index.md").write_text("# Start\n\n[nowhere](how-to/gone.md)\n")
    completed = build(tmp_path)
    assert completed.returncode != 0
    assert "index.md" in completed.stdout + completed.stderr


def test_reference_is_generated_from_the_code():
    assert (
        "| `threads` | integer (1 to 32) | `4` | Number of models that dbt builds in parallel. |"
        in reference.settings()
    )
    assert "| `load_id` | varchar(1024) | Key of the row" in reference.audit_columns()
    assert "| `make site` |" in reference.commands()
    assert "| `python -m mwaa_release rollback` | Make an earlier release live again" in reference.commands()
    assert "| `model_is_keyed` |" in reference.conventions()
