"""startup.sh runs as in MWAA's image, and its exports are merged as in MWAA's image."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from mwaa_local.mwaa import startup
from mwaa_local.mwaa.environment import configuration_options
from mwaa_local.mwaa.startup import merge_environment, run_startup_script
from mwaa_local.settings import SetupError
from mwaa_local.templates import load

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def run(folder: Path, content: str) -> dict[str, str]:
    script = folder / "startup.sh"
    script.write_text(content)
    return run_startup_script(script, ENVIRONMENT, folder / "startup.log")


def test_exported_variables_are_returned(tmp_path: Path) -> None:
    exported = run(tmp_path, "export GREETING=$'two\\nlines'\nHIDDEN=1\n")
    assert exported["GREETING"] == "two\nlines"
    assert "HIDDEN" not in exported


def test_exit_ends_only_the_script(tmp_path: Path) -> None:
    exported = run(tmp_path, "export BEFORE=1\nif true; then\n    exit 1\nfi\nexport AFTER=1\n")
    assert exported["BEFORE"] == "1"
    assert "AFTER" not in exported


@pytest.mark.parametrize("content", ["set -e\necho reason\nfalse\n", "echo reason\nexec false\n"])
def test_script_that_ends_its_shell_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(SetupError, match=r"(?s)ended its shell with exit code 1.*Remove set -e.*reason"):
        run(tmp_path, content)


def test_time_limit_is_the_limit_of_the_mwaa_image() -> None:
    assert startup.TIME_LIMIT_SECONDS == 295


def test_script_is_stopped_after_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "TIME_LIMIT_SECONDS", 1)
    monkeypatch.setattr(startup, "_GRACE_SECONDS", 1)
    mark = f"{time.time_ns()}"
    with pytest.raises(SetupError, match=r"(?s)did not end within 0 min 1 s.*unhealthy.*reason"):
        run(tmp_path, f"trap '' TERM\necho reason\nexec -a sleep-{mark} sleep 60 &\nsleep 60\n")
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep-{mark}" not in processes


def test_startup_script_cannot_change_protected_variables() -> None:
    container = {"PYTHONPATH": "/python", "AWS_REGION": "eu-west-1", "MWAA__CORE__X": "1", "PATH": "/bin"}
    exported = dict.fromkeys([*container, "JWT_PUBLIC_KEY", "DBT_VENV_PATH"], "mine")
    merged = merge_environment(container, exported, {}, {})
    assert merged == {**container, "PATH": "mine", "JWT_PUBLIC_KEY": "mine", "DBT_VENV_PATH": "mine"}


def test_options_override_startup_and_mwaa_overrides_options() -> None:
    names = ["A", "B", "C"]
    startup_variables, options, essential = (dict.fromkeys(names, layer) for layer in ("startup", "options", "mwaa"))
    merged = merge_environment({"A": "container"}, startup_variables, {"B": options["B"]}, {"C": essential["C"]})
    assert merged == {"A": "startup", "B": "options", "C": "mwaa"}


def test_configuration_options_come_from_the_stack() -> None:
    options = configuration_options("the-bucket", {})
    stack = load("environment.yml")["Resources"]["Environment"]["Properties"]["AirflowConfigurationOptions"]
    # Three options depend on parameters.
    assert len(options) == len(stack) - 3
    parameters = {"PackageSource": "wheels", "PipelinesEnvironment": "prod", "LandingBucketName": "landing"}
    more = {"AIRFLOW__DBT__WHEELS": "s3://the-bucket/wheels", "AIRFLOW__DBT__ENVIRONMENT": "prod"}
    more |= {"AIRFLOW__DBT__LANDING_BUCKET": "landing"}
    assert configuration_options("the-bucket", parameters) == {**options, **more}
    assert options["AIRFLOW__DBT__KEPT_RESULTS"] == "s3://the-bucket/kept_results"
    assert options["AIRFLOW__SECRETS__BACKEND"] == stack["secrets.backend"]
    assert json.loads(options["AIRFLOW__SECRETS__BACKEND_KWARGS"])["connections_prefix"] == "airflow/connections"
