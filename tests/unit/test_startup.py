"""startup.sh reports every failure in one line and never stops the shell that sources it, as MWAA does."""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

STARTUP = Path(__file__).parents[2] / "startup.sh"
# The programs that startup.sh calls besides bash and python3.
PROGRAMS = ("cat", "cksum", "env", "grep", "mkdir", "rm", "tail", "tee", "timeout")

# Creates a virtual environment with stubs for pip and dbt.
PYTHON = """#!/bin/bash
if [ "$HANGS" = "$2" ]; then sleep 60; fi
if [ "$1" = - ]; then
    echo "download ${*:2}" >>"$CALLS"
    if [ "$HANGS" = download ]; then sleep 60; fi
    if [ -n "$DOWNLOAD_FAILS" ]; then printf 'Traceback\\nClientError: %s\\n' "$DOWNLOAD_FAILS"; exit 1; fi
    exit
fi
if [ "$1" = -c ]; then
    if [ "$HANGS" = site ]; then sleep 60; fi
    if [ -n "$SITE_FAILS" ]; then exit 1; fi
    echo "$AIRFLOW_HOME/site"
    exit
fi
echo "python3 $*" >>"$CALLS"
if [ -n "$VENV_FAILS" ]; then echo "Error: $VENV_FAILS"; exit 1; fi
mkdir -p "${@: -1}/bin"
cat >"${@: -1}/bin/python" <<'PIP'
#!/bin/bash
echo "pip $*" >>"$CALLS"
if [ "$HANGS" = pip ]; then sleep 60; fi
cat "${@: -1}" >"$CALLS.requirements"
if [ -n "$PIP_FAILS" ]; then
    printf 'WARNING: Retrying\\nERROR: %s\\nERROR: more of it\\n' "$PIP_FAILS"
    exit 1
fi
PIP
cat >"${@: -1}/bin/dbt" <<'DBT'
#!/bin/bash
if [ "$HANGS" = dbt ]; then sleep 60; fi
if [ -n "$DBT_FAILS" ]; then printf 'Traceback\\nImportError: %s\\n' "$DBT_FAILS"; exit 1; fi
DBT
chmod +x "${@: -1}/bin/python" "${@: -1}/bin/dbt"
"""


@dataclass
class Container:
    """An MWAA container: its home folder, its programs and the files that startup.sh wrote."""

    folder: Path
    home: Path
    component: str = "worker"
    options: str = "set +eu"
    more: dict[str, str] = field(default_factory=dict)
    script: Path = STARTUP

    def start(self) -> subprocess.CompletedProcess[str]:
        """Source startup.sh, then print the line `alive` and the shell's variables."""
        environment = {
            "PATH": str(self.folder / "bin"),
            "CALLS": str(self.folder / "calls"),
            "AIRFLOW_HOME": str(self.home),
            "MWAA_AIRFLOW_COMPONENT": self.component,
            **self.more,
        }
        command = [
            shutil.which("bash"),
            "-c",
            f'{self.options}; source "$1"; echo "alive"; env',
            "startup",
            self.script,
        ]
        return subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )

    @property
    def calls(self) -> list[str]:
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    @property
    def marker(self) -> str | None:
        path = self.home / "dbt_venv.error"
        return path.read_text() if path.exists() else None


@pytest.fixture
def container(tmp_path: Path) -> Container:
    (tmp_path / "bin").mkdir()
    (tmp_path / "home").mkdir()
    for program in (*PROGRAMS, "chmod", "sleep"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    python = tmp_path / "bin" / "python3"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return Container(tmp_path, tmp_path / "home")


def variables(completed: subprocess.CompletedProcess[str]) -> dict[str, str]:
    shell, _, dumped = completed.stdout.partition("alive\n")
    assert dumped, f"the shell died\n{shell}{completed.stderr}"
    return dict(line.split("=", 1) for line in dumped.splitlines() if "=" in line)


def failure_line(completed: subprocess.CompletedProcess[str]) -> str:
    """Return the only line that startup.sh printed about the failure."""
    assert completed.returncode == 0
    variables(completed)
    (line,) = [line for line in completed.stderr.splitlines() if line.startswith("startup.sh:")]
    assert line.startswith("startup.sh: FAILED, dbt tasks on this container will fail: ")
    return line


SHELLS = pytest.mark.parametrize("options", ["set +eu", "set -e", "set -u", "set -eu", "set -euo pipefail"])


@SHELLS
def test_dbt_is_installed_once(container: Container, options: str) -> None:
    container.options = options
    first = container.start()
    assert variables(first)["DBT_VENV_PATH"] == str(container.home / "dbt_venv")
    assert first.stderr == ""
    assert container.marker is None
    venv, pip = container.calls
    assert venv == f"python3 -m venv --clear {container.home}/dbt_venv"
    assert pip.startswith("pip -m pip install --no-input")
    pins = (container.folder / "calls.requirements").read_text()
    assert "\ndbt-redshift==1.11.1\n" in pins
    second = container.start()
    assert "dbt is ready" in second.stdout
    assert len(container.calls) == 2


def test_triggerer_can_import_from_the_dags_folder(container: Container) -> None:
    assert variables(container.start())["AIRFLOW__DBT__START_IN_TRIGGERER"] == "True"
    line = (container.home / "site" / "mwaa_pipelines.pth").read_text()
    code = f"import site; site.addsitedir({str(container.home / 'site')!r}); import sys; print(sys.path[-1])"
    environment = {**os.environ, "AIRFLOW_HOME": "/somewhere", "PYTHONPATH": "/python"}
    completed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "/somewhere/dags", line


@SHELLS
def test_sensors_start_on_workers_without_the_pth_file(container: Container, options: str) -> None:
    container.options, container.more = options, {"SITE_FAILS": "yes"}
    completed = container.start()
    assert "AIRFLOW__DBT__START_IN_TRIGGERER" not in variables(completed)
    assert "mwaa_pipelines.pth cannot be written" in completed.stdout
    assert container.marker is None


def test_changed_pins_are_installed_again(container: Container) -> None:
    container.start()
    (container.home / "dbt_venv" / ".ready").write_text("of another startup.sh\n")
    container.start()
    assert len(container.calls) == 4


@SHELLS
@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("VENV_FAILS", "python3 -m venv failed: Error: no space left"),
        ("PIP_FAILS", "pip could not install dbt: ERROR: no space left"),
        ("DBT_FAILS", "dbt is installed but does not start: ImportError: no space left"),
    ],
)
def test_failed_step_is_reported_and_repeated_at_the_next_start(
    container: Container, options: str, variable: str, words: str
) -> None:
    container.options, container.more = options, {variable: "no space left"}
    failed = container.start()
    line = failure_line(failed)
    assert line.endswith(words)
    assert container.marker == f"{line}\n"
    # The next start installs again and removes the marker.
    container.more = {}
    variables(container.start())
    assert container.marker is None
    assert os.access(container.home / "dbt_venv" / "bin" / "dbt", os.X_OK)


@SHELLS
def test_packages_come_from_the_wheels_folder_of_the_stack(container: Container, options: str) -> None:
    container.options, container.more = options, {"AIRFLOW__DBT__WHEELS": "s3://bucket/wheels"}
    shell = variables(container.start())
    pins, folder = f"{container.home}/dbt_venv.requirements.txt", f"{container.home}/wheels"
    assert container.calls[0] == f"download s3://bucket/wheels {pins} {folder}"
    assert container.calls[2].startswith("pip -m pip install")
    # MWAA installs requirements.txt with these variables afterwards.
    assert (shell["PIP_NO_INDEX"], shell["PIP_FIND_LINKS"]) == ("1", folder)


@SHELLS
def test_packages_come_from_the_index_by_default(container: Container, options: str) -> None:
    container.options = options
    shell = variables(container.start())
    assert not any(name.startswith("PIP_") for name in shell)
    assert not any(call.startswith("download") for call in container.calls)


@SHELLS
def test_wheels_that_cannot_be_downloaded_are_reported(container: Container, options: str) -> None:
    container.options = options
    container.more = {"AIRFLOW__DBT__WHEELS": "s3://bucket/wheels", "DOWNLOAD_FAILS": "access denied"}
    line = failure_line(container.start())
    assert line.endswith("the wheels in s3://bucket/wheels could not be downloaded: ClientError: access denied")
    assert len(container.calls) == 1


@SHELLS
def test_missing_python_is_reported(container: Container, options: str) -> None:
    container.options = options
    (container.folder / "bin" / "python3").unlink()
    line = failure_line(container.start())
    assert line.endswith("failed to run command 'python3': No such file or directory")
    assert container.marker == f"{line}\n"


@SHELLS
def test_unwritable_home_is_reported(container: Container, options: str) -> None:
    # A file instead of the folder, because permissions do not stop root.
    container.options, container.home = options, container.folder / "home.file"
    container.home.write_text("")
    assert failure_line(container.start()).endswith("dbt_venv.requirements.txt cannot be written")
    assert container.calls == []


@SHELLS
def test_web_server_gets_variables_but_no_dbt(container: Container, options: str) -> None:
    container.options, container.component = options, "webserver"
    completed = container.start()
    assert variables(completed)["DBT_PROJECT_PATH"] == str(container.home / "dags" / "dbt")
    assert (completed.stdout.partition("alive\n")[0], completed.stderr, container.calls) == ("", "", [])


def test_pip_on_a_web_server_does_not_wait_for_an_index(container: Container) -> None:
    container.component = "webserver"
    shell = variables(container.start())
    assert (shell["PIP_RETRIES"], shell["PIP_DEFAULT_TIMEOUT"]) == ("0", "5")


@pytest.mark.parametrize("component", ["scheduler", "worker", "hybrid"])
def test_other_components_get_dbt(container: Container, component: str) -> None:
    container.component = component
    variables(container.start())
    assert len(container.calls) == 2


def test_usage_statistics_and_the_cache_are_off(container: Container) -> None:
    shell = variables(container.start())
    for name in (
        "AIRFLOW__COSMOS__ENABLE_TELEMETRY",
        "AIRFLOW__COSMOS__ENABLE_CACHE",
        "DBT_SEND_ANONYMOUS_USAGE_STATS",
    ):
        assert shell[name] == "False"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("download", "could not be downloaded: timed out 4 seconds after the start"),
        ("venv", "python3 -m venv failed: timed out 4 seconds after the start"),
        ("pip", "pip could not install dbt: timed out 4 seconds after the start"),
        ("dbt", "dbt is installed but does not start: timed out 4 seconds after the start"),
    ],
)
def test_step_that_hangs_is_stopped_and_reported(container: Container, tmp_path: Path, step: str, words: str) -> None:
    text = STARTUP.read_text()
    limit = re.search(r"^_dbt_seconds=(\d+)$", text, re.MULTILINE)
    # MWAA allows 295 seconds.
    assert int(limit[1]) <= 250
    container.script = tmp_path / "startup.sh"
    container.script.write_text(text.replace(limit[0], "_dbt_seconds=4"))
    container.more = {"HANGS": step, **({"AIRFLOW__DBT__WHEELS": "s3://bucket/wheels"} if step == "download" else {})}
    started = time.monotonic()
    line = failure_line(container.start())
    assert words in line
    assert container.marker == f"{line}\n"
    assert time.monotonic() - started < 30


def test_start_without_the_pth_file_when_python_hangs(container: Container, tmp_path: Path) -> None:
    container.script = tmp_path / "startup.sh"
    container.script.write_text(STARTUP.read_text().replace("_dbt_seconds=240", "_dbt_seconds=4"))
    container.more = {"HANGS": "site"}
    assert "mwaa_pipelines.pth cannot be written" in container.start().stdout


def test_only_exported_variables_stay_in_the_shell(container: Container) -> None:
    for component in ("worker", "webserver"):
        command = (
            f'MWAA_AIRFLOW_COMPONENT={component}; source "$1"; compgen -A function; compgen -v | grep _dbt_ || true'
        )
        completed = subprocess.run(
            [shutil.which("bash"), "-c", command, "startup", STARTUP],
            env={"PATH": str(container.folder / "bin"), "CALLS": "/dev/null", "AIRFLOW_HOME": str(container.home)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert [line for line in completed.stdout.splitlines() if not line.startswith("startup.sh:")] == []
