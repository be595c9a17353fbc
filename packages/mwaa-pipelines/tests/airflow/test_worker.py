"""A worker without dbt fails with startup.sh's error, not with a traceback about a missing program."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cosmos.cache import get_partial_parse_path

from mwaa_pipelines.compatibility import AirflowFailException
from mwaa_pipelines.worker import check_worker, dbt_executable, share_parsed


def test_error_of_startup_is_the_task_error(venv: Path) -> None:
    venv.with_name("dbt_venv.error").write_text("startup.sh: FAILED, dbt tasks will fail: pip could not install dbt\n")
    with pytest.raises(AirflowFailException, match=r"^startup\.sh: FAILED, dbt tasks will fail: pip could not"):
        check_worker({})


def test_missing_dbt_without_a_startup_error_is_an_error(venv: Path) -> None:
    with pytest.raises(
        AirflowFailException, match=r"dbt is not installed at .*bin/dbt, and startup\.sh left no error file"
    ):
        check_worker({})


def test_dbt_file_that_is_not_executable_is_an_error(venv: Path) -> None:
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "dbt").write_text("")
    with pytest.raises(AirflowFailException, match="dbt is not installed"):
        check_worker({})


def test_worker_with_dbt_passes_the_check(installed_dbt: Path) -> None:
    assert check_worker({}) is None
    assert dbt_executable() == str(installed_dbt)


def test_partial_parse_cache_is_shared_only_within_a_release(
    dag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def has_cache(task_id: str, release: str, save: bool = False) -> bool:
        task = copy.copy(dag.get_task(task_id))
        task.project_dir = f"/dags/dbt/flights/{release}"
        share_parsed(task, dag.dag_id)
        project = tmp_path / f"{task_id}-{release}"
        project.mkdir(exist_ok=True)
        task._handle_partial_parse(project)
        has_partial_parse = get_partial_parse_path(project).exists()
        if save:
            target_folder = tmp_path / "saved" / "target"
            target_folder.mkdir(parents=True, exist_ok=True)
            (target_folder / "partial_parse.msgpack").write_bytes(b"\x81\xa5nodes\x80")
            (target_folder / "manifest.json").write_text("{}")
            task._update_partial_parse_cache(target_folder.parent)
        return has_partial_parse

    audit, producer = "audit_dbt_task.audit_table_model_build", "transform_data.dbt_producer_watcher"
    assert not has_cache(audit, "one", save=True)
    assert has_cache(producer, "one")
    assert not has_cache(audit, "two", save=True)
    assert has_cache(producer, "two")
    assert not has_cache(audit, "one")
