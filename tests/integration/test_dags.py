"""Runs tests/airflow in Airflow's own environment, against a release that was just built."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.build import build
from local.processes import base_environment
from local.settings import REPOSITORY
from tests.fixtures.aws import running_aws
from tests.fixtures.project import sample_project


def test_the_dags_in_airflows_own_environment(airflow_python: Path, tmp_path: Path) -> None:
    artefact = build(tmp_path / "airflow", [sample_project(tmp_path / "project")])
    (release,) = artefact.releases
    dags = tmp_path / "airflow" / "dags"
    (dags / "dbt" / release.project_name / "CURRENT").write_text(f"{release.release_id}\n")
    environment = {
        **base_environment(),
        **_startup_environment(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "TMPDIR": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [airflow_python, "-m", "pytest", "-q", REPOSITORY / "tests" / "airflow"]
    # An account of their own: they make and delete the secret that other tests have, too.
    with running_aws(tmp_path) as aws:
        environment |= aws.environment()
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


def _startup_environment(home: Path) -> dict[str, str]:
    """The variables that startup.sh exports; on a web server it installs nothing."""
    command = ["bash", "-c", 'source "$1" && env -0', "startup", str(REPOSITORY / "startup.sh")]
    environment = {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(home), "MWAA_AIRFLOW_COMPONENT": "webserver"}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    pairs = dict(entry.split("=", 1) for entry in output.split("\0") if entry)
    return {name: value for name, value in pairs.items() if name.startswith(("AIRFLOW", "DBT_"))}
