"""`make run ENV=…` runs the sample with the settings of an environment."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mwaa_local import run_command, up
from mwaa_local.settings import Settings, SetupError
from mwaa_release.errors import DeployError

SETTINGS = Settings(Path("state"), 1, 2, 3)


def test_run_uses_the_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DBT__ENVIRONMENT", "dev")
    monkeypatch.setattr(up, "running", lambda _: False)

    def play(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(state="success" if os.environ["AIRFLOW__DBT__ENVIRONMENT"] == "prod" else "failed")

    monkeypatch.setattr(run_command, "_play", play)
    assert run_command.run(SETTINGS, environment="prod") == 0


def test_running_stand_ins_cannot_change_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "running", lambda _: True)
    with pytest.raises(SetupError, match="--environment prod: make up runs another environment"):
        run_command.run(SETTINGS, environment="prod")


def test_unknown_pipeline_error_lists_the_pipelines() -> None:
    with pytest.raises(DeployError, match=r"has no pipeline 'flight_pipeline'. Its pipelines: flights_pipeline"):
        run_command.run(SETTINGS, "flight_pipeline")
