"""startup.sh survives whatever fails, says it in one line and leaves it for the DAGs; bash sources it, as on MWAA."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

STARTUP = Path(__file__).parents[2] / "startup.sh"
# What startup.sh calls besides bash itself and python3.
PROGRAMS = ("cat", "cksum", "env", "grep", "rm", "tail", "tee")

# Makes a virtual environment whose python answers as pip, and whose dbt answers with its version.
PYTHON = """#!/bin/bash
if [ "$1" = -c ]; then
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
cat "${@: -1}" >"$CALLS.requirements"
if [ -n "$PIP_FAILS" ]; then
    printf 'WARNING: Retrying\\nERROR: %s\\nERROR: more of it\\n' "$PIP_FAILS"
    exit 1
fi
PIP
cat >"${@: -1}/bin/dbt" <<'DBT'
#!/bin/bash
if [ -n "$DBT_FAILS" ]; then printf 'Traceback\\nImportError: %s\\n' "$DBT_FAILS"; exit 1; fi
DBT
chmod +x "${@: -1}/bin/python" "${@: -1}/bin/dbt"
"""


@dataclass
class Container:
    """A container of MWAA: its home, its programs, and what startup.sh left in them."""

    folder: Path
    home: Path
    component: str = "worker"
    options: str = "set +eu"
    more: dict[str, str] = field(default_factory=dict)

    def start(self) -> subprocess.CompletedProcess[str]:
        """Source startup.sh; the last line of its output says whether the shell lived to dump its variables."""
        environment = {
            "PATH": str(self.folder / "bin"),
            "CALLS": str(self.folder / "calls"),
            "AIRFLOW_HOME": str(self.home),
            "MWAA_AIRFLOW_COMPONENT": self.component,
            **self.more,
        }
        command = [shutil.which("bash"), "-c", f'{self.options}; source "$1"; echo "alive"; env', "startup", STARTUP]
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
    for program in (*PROGRAMS, "mkdir", "chmod"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    python = tmp_path / "bin" / "python3"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return Container(tmp_path, tmp_path / "home")


def variables(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    shell, _, dumped = done.stdout.partition("alive\n")
    assert dumped, f"the shell died\n{shell}{done.stderr}"
    return dict(line.split("=", 1) for line in dumped.splitlines() if "=" in line)


def the_failure(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what went wrong."""
    assert done.returncode == 0
    variables(done)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("startup.sh:")]
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


def test_the_triggerer_finds_the_dags_folder(container: Container) -> None:
    assert variables(container.start())["AIRFLOW__DBT__START_IN_TRIGGERER"] == "True"
    line = (container.home / "site" / "mwaa_pipelines.pth").read_text()
    code = f"import site; site.addsitedir({str(container.home / 'site')!r}); import sys; print(sys.path[-1])"
    environment = {**os.environ, "AIRFLOW_HOME": "/somewhere", "PYTHONPATH": "/python"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "/somewhere/dags", line


@SHELLS
def test_an_unwritable_site_leaves_sensors_to_workers(container: Container, options: str) -> None:
    container.options, container.more = options, {"SITE_FAILS": "yes"}
    done = container.start()
    assert "AIRFLOW__DBT__START_IN_TRIGGERER" not in variables(done)
    assert "mwaa_pipelines.pth cannot be written" in done.stdout
    assert container.marker is None


def test_another_set_of_pins_is_installed_anew(container: Container) -> None:
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
def test_a_step_that_fails(container: Container, options: str, variable: str, words: str) -> None:
    container.options, container.more = options, {variable: "no space left"}
    failed = container.start()
    line = the_failure(failed)
    assert line.endswith(words)
    assert container.marker == f"{line}\n"
    # The next start begins anew, and takes the marker away.
    container.more = {}
    variables(container.start())
    assert container.marker is None
    assert os.access(container.home / "dbt_venv" / "bin" / "dbt", os.X_OK)


@SHELLS
def test_no_python(container: Container, options: str) -> None:
    container.options = options
    (container.folder / "bin" / "python3").unlink()
    line = the_failure(container.start())
    assert line.endswith("python3: command not found")
    assert container.marker == f"{line}\n"


@SHELLS
def test_a_home_that_cannot_be_written(container: Container, options: str) -> None:
    # A file in the place of the folder: permissions would not hold root back.
    container.options, container.home = options, container.folder / "home.file"
    container.home.write_text("")
    assert the_failure(container.start()).endswith("dbt_venv.requirements.txt cannot be written")
    assert container.calls == []


@SHELLS
def test_a_web_server_gets_the_variables_and_no_dbt(container: Container, options: str) -> None:
    container.options, container.component = options, "webserver"
    done = container.start()
    assert variables(done)["DBT_PROJECT_PATH"] == str(container.home / "dags" / "dbt")
    assert (done.stdout.partition("alive\n")[0], done.stderr, container.calls) == ("", "", [])


@pytest.mark.parametrize("component", ["scheduler", "worker", "hybrid"])
def test_every_other_component_gets_dbt(container: Container, component: str) -> None:
    container.component = component
    variables(container.start())
    assert len(container.calls) == 2


def test_what_is_sent_home_or_written_at_parse_is_off(container: Container) -> None:
    found = variables(container.start())
    off = [
        name for name, value in found.items() if name.startswith(("AIRFLOW__COSMOS__", "DBT_SEND")) and value == "False"
    ]
    assert {"AIRFLOW__COSMOS__ENABLE_TELEMETRY", "AIRFLOW__COSMOS__ENABLE_CACHE", "DBT_SEND_ANONYMOUS_USAGE_STATS"} <= {
        *off
    }


def test_nothing_but_variables_is_left_in_the_shell(container: Container) -> None:
    for component in ("worker", "webserver"):
        command = (
            f'MWAA_AIRFLOW_COMPONENT={component}; source "$1"; compgen -A function; compgen -v | grep _dbt_ || true'
        )
        done = subprocess.run(
            [shutil.which("bash"), "-c", command, "startup", STARTUP],
            env={"PATH": str(container.folder / "bin"), "CALLS": "/dev/null", "AIRFLOW_HOME": str(container.home)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert [line for line in done.stdout.splitlines() if not line.startswith("startup.sh:")] == []
