"""A worker without dbt fails with what startup.sh said, not with a traceback of a missing program."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cosmos.cache import get_partial_parse_path

from mwaa_pipelines.compatibility import AirflowFailException
from mwaa_pipelines.worker import check_worker, dbt_executable, share_parsed


def test_what_startup_said_is_the_error(venv: Path) -> None:
    venv.with_name("dbt_venv.error").write_text("startup.sh: FAILED, dbt tasks will fail: pip could not install dbt\n")
    with pytest.raises(AirflowFailException, match=r"^startup\.sh: FAILED, dbt tasks will fail: pip could not"):
        check_worker({})


def test_silence_is_said_too(venv: Path) -> None:
    with pytest.raises(
        AirflowFailException, match=r"dbt is not installed at .*bin/dbt, and startup\.sh left no error file"
    ):
        check_worker({})


def test_a_file_that_does_not_run_is_no_dbt(venv: Path) -> None:
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "dbt").write_text("")
    with pytest.raises(AirflowFailException, match="dbt is not installed"):
        check_worker({})


def test_a_good_worker_passes(installed_dbt: Path) -> None:
    assert check_worker({}) is None
    assert dbt_executable() == str(installed_dbt)


def test_dbt_finds_what_another_task_has_parsed_of_the_same_release_and_of_no_other(
    dag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def find(task_id: str, release: str, leave: bool = False) -> bool:
        task = copy.copy(dag.get_task(task_id))
        task.project_dir = f"/dags/dbt/flights/{release}"
        share_parsed(task)
        project = tmp_path / f"{task_id}-{release}"
        project.mkdir(exist_ok=True)
        task._handle_partial_parse(project)
        has_partial_parse = get_partial_parse_path(project).exists()
        if leave:
            target_folder = tmp_path / "made" / "target"
            target_folder.mkdir(parents=True, exist_ok=True)
            (target_folder / "partial_parse.msgpack").write_bytes(b"\x81\xa5nodes\x80")
            (target_folder / "manifest.json").write_text("{}")
            task._update_partial_parse_cache(target_folder.parent)
        return has_partial_parse

    audit, producer = "audit_dbt_task.audit_table_model_build", "transform_data.dbt_producer_watcher"
    assert not find(audit, "one", leave=True)
    assert find(producer, "one")
    assert not find(audit, "two", leave=True)
    assert find(producer, "two")
    assert not find(audit, "one")
