"""Settings of the stand-ins: ports, the state folder and the passwords."""

import socket
import stat
from pathlib import Path

import pytest

from mwaa_local.settings import REPOSITORY, Passwords, Settings, SetupError, check_port

VARIABLES = ("LOCAL_DIR", "LOCAL_WAREHOUSE_PORT", "LOCAL_AWS_PORT", "LOCAL_AIRFLOW_PORT")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_settings_have_defaults() -> None:
    assert Settings.from_environment() == Settings(REPOSITORY / ".local", 5439, 4566, 8080)


def test_empty_variable_uses_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    assert Settings.from_environment() == Settings(REPOSITORY / ".local", 5439, 4566, 8080)


def test_relative_state_folder_is_below_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_DIR", "elsewhere")
    assert Settings.from_environment().state == REPOSITORY / "elsewhere"


@pytest.mark.parametrize("variable", VARIABLES[1:])
@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "80.5", "5439 ", "٥٤٣٩", "99999999999999999999"])
def test_invalid_port_error_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SetupError, match=f"{variable}='.*' is not a port; set it to a number from 1 to 65535"):
        Settings.from_environment()


def test_two_services_cannot_share_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_AWS_PORT", "8080")
    with pytest.raises(SetupError, match="LOCAL_AWS_PORT and LOCAL_AIRFLOW_PORT are both 8080"):
        Settings.from_environment()


def test_busy_port_error_names_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SetupError, match=f"port {port} is busy; .*: LOCAL_AWS_PORT=<port>"):
            check_port(port, "LOCAL_AWS_PORT")
    check_port(port, "LOCAL_AWS_PORT")


def test_passwords_are_new_at_each_start_and_readable_only_by_the_owner(tmp_path: Path) -> None:
    first = Passwords.generate(tmp_path / "state")
    second = Passwords.generate(tmp_path / "state")
    assert Passwords.load(tmp_path / "state") == second
    passwords = [*vars(first).values(), *vars(second).values()]
    assert len(set(passwords)) == len(passwords)
    (file,) = (tmp_path / "state").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", '{"awsuser": "Aa1secret"}'])
def test_damaged_passwords_file_error_shows_no_password(tmp_path: Path, content: str) -> None:
    (tmp_path / "passwords.json").write_text(content)
    with pytest.raises(
        SetupError, match=r"passwords.json is damaged; restart the stand-ins with: make down up"
    ) as raised:
        Passwords.load(tmp_path)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_missing_passwords_file_error_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no stand-ins are running in this checkout; start them with: make up"):
        Passwords.load(tmp_path)
