"""Wrong settings and missing tools cause one clear error message, the right exit code and no leftovers."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mwaa_local.mwaa.image import find_uv
from mwaa_local.settings import REPOSITORY
from mwaa_local.testing.checkout import PORTS, Checkout, copy_repository, error_message, new_checkout
from mwaa_local.testing.state import STATE


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    separate = new_checkout(tmp_path / "state")
    yield separate
    separate.command("down")
    assert separate.leftovers() == []


@pytest.fixture
def writable_checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the repository, for tests that write into it."""
    separate = new_checkout(tmp_path / "state", copy_repository(tmp_path / "copy"))
    yield separate
    separate.command("down")
    assert separate.leftovers() == []


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "up"])
@pytest.mark.parametrize("variable", PORTS)
def test_busy_port_error_names_its_variable(checkout: Checkout, command: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", int(checkout.environment[variable]))):
        completed = checkout.command(command)
        message = error_message(completed.stdout + completed.stderr)
        assert completed.returncode == 2, message
        assert f"port {checkout.environment[variable]} is busy" in message
        assert f"choose another: {variable}=<port>" in message
    assert checkout.leftovers() == []


def test_busy_port_is_an_error_of_make_warehouse(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", int(checkout.environment["LOCAL_WAREHOUSE_PORT"]))):
        completed = checkout.command("warehouse")
        assert (completed.returncode, completed.stdout) == (2, "")
        assert "choose another: LOCAL_WAREHOUSE_PORT=<port>" in error_message(completed.stderr)
    assert checkout.leftovers() == []


@pytest.mark.parametrize("command", [("run",), ("drill",), ("up",), ("down",), ("warehouse",), ("sql", "select 1")])
def test_every_command_rejects_a_port_that_is_not_a_number(checkout: Checkout, command: tuple[str, ...]) -> None:
    completed = checkout.command(*command, LOCAL_AWS_PORT="http")
    assert (completed.returncode, completed.stdout) == (2, "")
    assert error_message(completed.stderr) == (
        "Set-up failed: LOCAL_AWS_PORT='http' is not a port; set it to a number from 1 to 65535"
    )


# --- bootstrap without Python or a package index -----------------------------------------------------------------


def _bootstrap(state: Path, tools: list[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
    binaries = state / "bin"
    binaries.mkdir(parents=True)
    for tool in tools:
        source = tool if isinstance(tool, Path) else Path(str(shutil.which(tool)))
        (binaries / source.name).symlink_to(source)
    return subprocess.run(
        ["/bin/sh", ".ci/bootstrap.sh"],
        cwd=REPOSITORY,
        env={"PATH": str(binaries), "HOME": str(state), "LOCAL_DIR": str(state), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


SHELL = ["dirname", "mkdir", "cat", "cksum", "rm", "sleep"]
PYTHON = Path(sys.base_prefix) / "bin" / "python3.12"
UNREACHABLE_INDEX = "http://127.0.0.1:9/simple"


def test_missing_python_error_says_how_to_name_an_interpreter(tmp_path: Path) -> None:
    completed = _bootstrap(tmp_path, SHELL)
    assert (completed.returncode, completed.stdout) == (2, "")
    assert error_message(completed.stderr) == (
        "Set-up failed: Python 3.12 was not found. Install it, or name it: make run PYTHON=/path/to/python3.12"
    )
    assert not (tmp_path / "venvs" / ".lock").exists()


def test_unreachable_package_index_is_an_error_when_uv_is_installed(tmp_path: Path) -> None:
    no_index = {"PIP_INDEX_URL": UNREACHABLE_INDEX, "PIP_CONFIG_FILE": os.devnull}
    completed = _bootstrap(tmp_path, [*SHELL, PYTHON], **no_index)
    assert completed.returncode == 2, completed.stderr
    assert "Set-up failed: uv could not be installed; is a package index reachable (PIP_INDEX_URL)?" in completed.stderr
    assert "Traceback" not in completed.stderr
    assert not (tmp_path / "venvs" / ".lock").exists()


def test_unreachable_package_index_is_an_error_when_tools_are_installed(tmp_path: Path) -> None:
    # Prefer this checkout's uv to the one on PATH.
    uv = Path(str(shutil.which(find_uv(STATE / "venvs"))))
    no_index = {"UV_DEFAULT_INDEX": UNREACHABLE_INDEX, "UV_NO_CONFIG": "1", "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
    completed = _bootstrap(tmp_path, [*SHELL, PYTHON, uv.resolve()], **no_index)
    assert completed.returncode == 2, completed.stderr
    assert "is a package index reachable (UV_DEFAULT_INDEX)?" in error_message(completed.stderr)
    # The next bootstrap must not treat this incomplete environment as ready.
    assert not (tmp_path / "venvs" / "tools" / ".ready").exists()
    assert not (tmp_path / "venvs" / ".lock").exists()


# --- make sql -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "  \n"])
def test_sql_without_a_statement_is_an_error_with_an_example(checkout: Checkout, query: str) -> None:
    completed = checkout.command("sql", "--", query)
    assert (completed.returncode, completed.stdout) == (2, "")
    message = 'there is no statement\nGive a statement, such as make sql Q="select 1"'
    assert message in completed.stderr


def test_sql_without_stand_ins_is_an_error_that_names_make_up(checkout: Checkout) -> None:
    completed = checkout.command("sql", "select 1")
    assert (completed.returncode, completed.stdout) == (2, "")
    assert (
        error_message(completed.stderr)
        == "Set-up failed: no stand-ins are running in this checkout; start them with: make up"
    )


def test_down_without_stand_ins_succeeds(checkout: Checkout) -> None:
    completed = checkout.command("down")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "Nothing was running.\n", "")


# --- the repository -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_broken_model_error_names_its_file_and_line(writable_checkout: Checkout) -> None:
    model = writable_checkout.repository / "dbt_project" / "models" / "marts" / "broken.sql"
    model.write_text("select 1 as a\nfrom {{ ref('stg_airlines' }}\n")
    completed = writable_checkout.command("run")
    message = error_message(completed.stdout + completed.stderr)
    assert completed.returncode == 2, message
    assert "models/marts/broken.sql" in message
    assert "line 2" in message
    assert writable_checkout.leftovers() == []
    assert not (writable_checkout.state / "last-run.json").exists()


@pytest.mark.slow
def test_invalid_pipelines_file_is_a_one_line_error_until_fixed(writable_checkout: Checkout) -> None:
    pipelines = writable_checkout.repository / "dags" / "pipelines.yml"
    original = pipelines.read_text()
    pipelines.write_text(original.replace("target_schema: analytics", "target_scheme: analytics"))
    completed = writable_checkout.command("run")
    message = error_message(completed.stdout + completed.stderr)
    assert completed.returncode == 2, message
    (line,) = [line for line in message.splitlines() if "target_scheme" in line]
    assert re.search(r"pipelines\.yml:\d+: pipeline flights_pipeline: ", line)
    assert 'File "' not in message
    assert writable_checkout.leftovers() == []

    # Airflow still stores the import error of the file, which is correct again.
    pipelines.write_text(original)
    completed = writable_checkout.command("up")
    assert completed.returncode == 0, completed.stdout + completed.stderr
