"""A worker without dbt fails with what startup.sh said, not with a traceback of a missing program."""

from pathlib import Path

import pytest
from dbt_pipeline.compatibility import AirflowFailException
from dbt_pipeline.worker import check_worker, dbt_executable


def test_what_startup_said_is_the_error(venv: Path) -> None:
    venv.with_name("dbt_venv.error").write_text("startup.sh: FAILED, dbt tasks will fail: pip could not install dbt\n")
    with pytest.raises(AirflowFailException, match=r"^startup\.sh: FAILED, dbt tasks will fail: pip could not"):
        check_worker({})


def test_silence_is_said_too(venv: Path) -> None:
    with pytest.raises(AirflowFailException, match=r"dbt is not installed at .*bin/dbt, and startup\.sh left no word"):
        check_worker({})


def test_a_file_that_does_not_run_is_no_dbt(venv: Path) -> None:
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "dbt").write_text("")
    with pytest.raises(AirflowFailException, match="dbt is not installed"):
        check_worker({})


def test_a_good_worker_passes(venv: Path) -> None:
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "dbt").write_text("")
    (venv / "bin" / "dbt").chmod(0o755)
    assert check_worker({}) is None
    assert dbt_executable() == str(venv / "bin" / "dbt")
