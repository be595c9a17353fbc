"""The script that builds public dbt projects counts only known outcomes as passed."""

import json
import runpy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[1] / "public_dbt_projects.py"
STATUSES = ("success", "pass", "warn", "no-op", "skipped", "error", "fail", "partial success", "runtime error")


@pytest.mark.parametrize("code", [0, 2])
def test_unknown_status_counts_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int):
    def run(*_: object, **options: object) -> SimpleNamespace:
        if not code:
            target = Path(options["env"]["DBT_TARGET_PATH"])
            target.mkdir()
            nodes = [{"status": status, "message": None, "unique_id": status} for status in STATUSES]
            (target / "run_results.json").write_text(json.dumps({"results": nodes}))
        return SimpleNamespace(returncode=code)

    script = runpy.run_path(str(SCRIPT))
    monkeypatch.setattr("subprocess.run", run)
    results: Counter[str] = Counter()
    problems = script["_counted"](*script["dbt"](tmp_path, tmp_path, ("build",), ""), results)
    if code:
        assert problems == [f"dbt build: exit code 2, no output ({tmp_path / '1-build.log'})"]
        assert results == {"failed": 1}
    else:
        assert results == {"passed": 4, "skipped": 1, "failed": 4}
        assert problems[-1] == "runtime error: "
