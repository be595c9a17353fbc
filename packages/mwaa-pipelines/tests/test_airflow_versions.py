"""Runs tests/airflow against a new release: with the installed Airflow and with older versions."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mwaa_local.mwaa.image import find_uv
from mwaa_local.processes import base_environment
from mwaa_local.settings import REPOSITORY
from mwaa_local.testing.aws import running_aws
from mwaa_local.testing.project import sample_project
from mwaa_local.testing.state import STATE
from mwaa_release.build import build

VERSIONS = REPOSITORY / "packages" / "mwaa-pipelines" / "tests" / "airflow" / "versions"


def test_dags_pass_on_the_installed_airflow(airflow_python: Path, tmp_path: Path) -> None:
    _run_tests(airflow_python, tmp_path, {"PYTHONDONTWRITEBYTECODE": "1"})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", ["3.0.6", "3.2.1"])
def test_dags_pass_on_older_airflow_versions_of_mwaa(version: str, tmp_path: Path) -> None:
    python = _python_with_airflow(version)
    version_command = [python, "-c", "import airflow, cosmos; print(airflow.__version__, cosmos.__version__)"]
    completed = subprocess.run(
        version_command, cwd=tmp_path, env=base_environment(), capture_output=True, text=True, check=True
    )
    pinned = (REPOSITORY / "requirements.txt").read_text().split("astronomer-cosmos==")[1].split()[0]
    assert completed.stdout.splitlines()[-1] == f"{version} {pinned}"
    # uv has not compiled this environment. Compile what is imported, once for all processes and runs of these tests.
    _run_tests(python, tmp_path, {"PYTHONPYCACHEPREFIX": str(python.parents[1] / "pycache")})


def _python_with_airflow(version: str) -> Path:
    """Return the Python of an environment with this Airflow version, in the state folder. Installed on first use."""
    requirements = VERSIONS / f"{version}.txt"
    venv = STATE / "venvs" / f"mwaa-{version}"
    ready = venv / ".ready"
    if not ready.is_file() or ready.read_text() != requirements.read_text():
        uv = find_uv(STATE / "venvs")
        environment = {**base_environment(), "VIRTUAL_ENV": str(venv)}
        for command in (["venv", "--clear", "--python", sys.executable, venv], ["pip", "sync", requirements]):
            subprocess.run([uv, *command], env=environment, check=True, capture_output=True)
        ready.write_text(requirements.read_text())
    return venv / "bin" / "python"


def _run_tests(airflow_python: Path, tmp_path: Path, variables: Mapping[str, str]) -> None:
    artifact = build(tmp_path / "airflow", [sample_project(tmp_path / "project")])
    (release,) = artifact.releases
    dags = tmp_path / "airflow" / "dags"
    (dags / "dbt" / release.project_name / "CURRENT").write_text(f"{release.release_id}\n")
    environment = {
        **base_environment(),
        **_startup_environment(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DBT__START_IN_TRIGGERER": "True",
        "TMPDIR": str(tmp_path),
        **variables,
    }
    command = [airflow_python, "-m", "pytest", "-q", REPOSITORY / "packages" / "mwaa-pipelines" / "tests" / "airflow"]
    # A separate AWS stand-in, because these tests create and delete a secret that other tests use too.
    with running_aws(tmp_path) as aws:
        environment |= aws.environment()
        completed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode:
        pytest.fail(completed.stdout + completed.stderr, pytrace=False)


def _startup_environment(home: Path) -> dict[str, str]:
    """The variables that startup.sh exports; on a web server it installs nothing."""
    command = ["bash", "-c", 'source "$1" && env -0', "startup", str(REPOSITORY / "startup.sh")]
    environment = {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(home), "MWAA_AIRFLOW_COMPONENT": "webserver"}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    pairs = dict(entry.split("=", 1) for entry in output.split("\0") if entry)
    return {name: value for name, value in pairs.items() if name.startswith(("AIRFLOW", "DBT_"))}
