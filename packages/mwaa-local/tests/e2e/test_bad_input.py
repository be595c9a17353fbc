"""Wrong settings and missing tools: one clear message, the right exit code, and no leftovers."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mwaa_local.settings import REPOSITORY
from mwaa_local.testing.checkout import PORTS, Checkout, copy_repository, new_checkout, the_message


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    separate = new_checkout(tmp_path / "state")
    yield separate
    separate.command("down")
    assert separate.leftovers() == []


@pytest.fixture
def spoilt(tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the repository, for tests that write into it."""
    separate = new_checkout(tmp_path / "state", copy_repository(tmp_path / "copy"))
    yield separate
    separate.command("down")
    assert separate.leftovers() == []


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "up"])
@pytest.mark.parametrize("variable", PORTS)
def test_a_busy_port_is_an_error_that_names_its_variable(checkout: Checkout, command: str, variable: str) -> None:
    with socket.create_server(("127.0.0.1", int(checkout.environment[variable]))):
        done = checkout.command(command)
        message = the_message(done.stdout + done.stderr)
        assert done.returncode == 2, message
        assert f"port {checkout.environment[variable]} is busy" in message
        assert f"choose another: {variable}=<port>" in message
    assert checkout.leftovers() == []


def test_a_busy_port_stops_the_warehouse_alone(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", int(checkout.environment["LOCAL_WAREHOUSE_PORT"]))):
        done = checkout.command("warehouse")
        assert (done.returncode, done.stdout) == (2, "")
        assert "choose another: LOCAL_WAREHOUSE_PORT=<port>" in the_message(done.stderr)
    assert checkout.leftovers() == []


@pytest.mark.parametrize("command", [("run",), ("drill",), ("up",), ("down",), ("warehouse",), ("sql", "select 1")])
def test_a_port_that_is_no_number_is_refused_by_every_command(checkout: Checkout, command: tuple[str, ...]) -> None:
    done = checkout.command(*command, LOCAL_AWS_PORT="http")
    assert (done.returncode, done.stdout) == (2, "")
    assert the_message(done.stderr) == (
        "Set-up failed: LOCAL_AWS_PORT='http' is not a port; set it to a number from 1 to 65535"
    )


# --- nothing but a shell ------------------------------------------------------------------------------------------


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
NOWHERE = "http://127.0.0.1:9/simple"


def test_without_python_3_12_the_message_says_how_to_name_one(tmp_path: Path) -> None:
    done = _bootstrap(tmp_path, SHELL)
    assert (done.returncode, done.stdout) == (2, "")
    assert the_message(done.stderr) == (
        "Set-up failed: Python 3.12 was not found. Install it, or name it: make run PYTHON=/path/to/python3.12"
    )
    assert not (tmp_path / "venvs" / ".lock").exists()


def test_without_a_package_index_uv_cannot_be_fetched(tmp_path: Path) -> None:
    nothing = {"PIP_INDEX_URL": NOWHERE, "PIP_CONFIG_FILE": os.devnull}
    done = _bootstrap(tmp_path, [*SHELL, PYTHON], **nothing)
    assert done.returncode == 2, done.stderr
    assert "Set-up failed: uv could not be installed; is a package index reachable (PIP_INDEX_URL)?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "venvs" / ".lock").exists()


def test_without_a_package_index_the_tools_cannot_be_installed(tmp_path: Path) -> None:
    # uv of this checkout, or from PATH.
    fetched = REPOSITORY / ".local" / "venvs" / "uv" / "bin" / "uv"
    uv = fetched if fetched.exists() else Path(str(shutil.which("uv")))
    nothing = {"UV_DEFAULT_INDEX": NOWHERE, "UV_NO_CONFIG": "1", "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
    done = _bootstrap(tmp_path, [*SHELL, PYTHON, uv.resolve()], **nothing)
    assert done.returncode == 2, done.stderr
    assert "is a package index reachable (UV_DEFAULT_INDEX)?" in the_message(done.stderr)
    # A set-up that ended half-way is not taken for a whole one.
    assert not (tmp_path / "venvs" / "tools" / ".ready").exists()
    assert not (tmp_path / "venvs" / ".lock").exists()


# --- make sql -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "  \n"])
def test_sql_without_a_statement_shows_one(checkout: Checkout, query: str) -> None:
    done = checkout.command("sql", "--", query)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'there is no statement; give a statement, such as make sql Q="select 1"' in the_message(done.stderr)


def test_sql_with_nothing_running_says_how_to_start(checkout: Checkout) -> None:
    done = checkout.command("sql", "select 1")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        the_message(done.stderr) == "Set-up failed: no stand-ins are running in this checkout; start them with: make up"
    )


def test_down_with_nothing_running_is_no_error(checkout: Checkout) -> None:
    done = checkout.command("down")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Nothing was running.\n", "")


# --- the repository -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_broken_model_is_told_in_dbts_own_words(spoilt: Checkout) -> None:
    model = spoilt.repository / "dbt_project" / "models" / "marts" / "spoilt.sql"
    model.write_text("select 1 as a\nfrom {{ ref('stg_airlines' }}\n")
    done = spoilt.command("run")
    message = the_message(done.stdout + done.stderr)
    assert done.returncode == 2, message
    assert "models/marts/spoilt.sql" in message
    assert "line 2" in message
    assert spoilt.leftovers() == []
    assert not (spoilt.state / "last-run.json").exists()


@pytest.mark.slow
def test_an_invalid_pipelines_file_is_a_one_line_error_until_it_is_fixed(spoilt: Checkout) -> None:
    pipelines = spoilt.repository / "dags" / "pipelines.yml"
    whole = pipelines.read_text()
    pipelines.write_text(whole.replace("target_schema: analytics", "target_scheme: analytics"))
    done = spoilt.command("run")
    message = the_message(done.stdout + done.stderr)
    assert done.returncode == 2, message
    (line,) = [line for line in message.splitlines() if "target_scheme" in line]
    assert "pipelines.yml: pipeline flights_pipeline: " in line
    assert 'File "' not in message
    assert spoilt.leftovers() == []

    # Airflow remembers the error of the file that is mended now.
    pipelines.write_text(whole)
    done = spoilt.command("up")
    assert done.returncode == 0, done.stdout + done.stderr
