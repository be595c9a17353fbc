"""The background process of `make up`."""

from pathlib import Path
from typing import Any

import pytest

from mwaa_local import up
from mwaa_local.settings import Settings, SetupError


def test_error_is_in_the_log_before_the_clean_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    printed_before_stop: list[str] = []

    class EndedStack:
        def __init__(self, _settings: Settings) -> None: ...

        def take_lock(self) -> None: ...

        def start(self, _steps: Any, *, load: bool) -> dict[str, str]:
            return {}

        def check(self) -> None:
            raise SetupError("warehouse was killed by signal 9")

        def stop(self) -> None:
            printed_before_stop.append(capsys.readouterr().err)

    monkeypatch.setattr(up, "Stack", EndedStack)
    with pytest.raises(SystemExit) as ended:
        up.keep(Settings(tmp_path, 1, 2, 3))
    assert ended.value.code == 2
    assert printed_before_stop == ["Set-up failed: warehouse was killed by signal 9\n"]


def test_build_in_the_background_reaches_the_package_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environments: list[dict[str, str]] = []
    monkeypatch.setenv("DBT_PACKAGE_HUB_URL", "https://hub.example/")
    monkeypatch.setenv("DBT_ENV_SECRET_TOKEN", "t0ken")
    monkeypatch.setenv("DBT_TARGET", "other")
    monkeypatch.setattr(up.subprocess, "Popen", lambda *_arguments, env, **_options: environments.append(env))
    monkeypatch.setattr(up, "_follow", lambda _settings, _process: 0)
    up._start(Settings(tmp_path, 1, 2, 3))
    (environment,) = environments
    assert {name: value for name, value in environment.items() if name.startswith("DBT_")} == {
        "DBT_PACKAGE_HUB_URL": "https://hub.example/",
        "DBT_ENV_SECRET_TOKEN": "t0ken",
    }
