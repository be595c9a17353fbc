"""Download the packages that MWAA's containers install, for environments that reach no package index."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mwaa_release.errors import BuildError

# The containers run Python 3.12 on Amazon Linux 2023, which has glibc 2.34.
# (Dockerfile.base and 002-install-python.sh of aws/amazon-mwaa-docker-images, read 2026-11; x86_64 is unverified)
_PYTHON = "3.12"
_PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in range(34, 4, -1)), "manylinux2014_x86_64")
_PINS = re.compile(r"(?<=^# pins: begin).*?\n(.*?)(?=^# pins: end$)", re.DOTALL | re.MULTILINE)


def download_wheels(startup: Path, requirements: Path, target: Path) -> None:
    """Download the wheels of the dbt virtualenv and of requirements.txt.

    The packages' own dependencies are not downloaded: both files list them.

    Args:
        startup: startup.sh, with the pins of the dbt virtualenv.
        requirements: requirements.txt.
        target: folder for the wheels. Gets the folders `dbt` and `requirements`.

    Raises:
        BuildError: a file has no pinned versions, or pip cannot download a wheel. The message is pip's.
    """
    pins = pinned_versions(startup)
    if loose := [line for line in requirements.read_text(encoding="utf-8").splitlines() if not _is_pinned(line)]:
        raise BuildError(
            f"{requirements}: {loose[0]!r} does not pin a version, so its wheel cannot be downloaded in advance; "
            "write <package>==<version>"
        )
    with tempfile.TemporaryDirectory(prefix="wheels-") as scratch:
        (Path(scratch) / "dbt.txt").write_text(pins, encoding="utf-8")
        for name, file in (("dbt", Path(scratch) / "dbt.txt"), ("requirements", requirements)):
            _download(file, target / name)


def pinned_versions(startup: Path) -> str:
    """Return the lines of startup.sh that pin the packages of dbt's environment.

    Raises:
        BuildError: there are none.
    """
    pins = _PINS.search(startup.read_text(encoding="utf-8"))
    if pins is None:
        raise BuildError(f"{startup} has no lines between '# pins: begin' and '# pins: end'; restore them")
    return pins[1]


def _is_pinned(line: str) -> bool:
    return bool(re.fullmatch(r"(#.*|[\w.\[\],-]+==[\w.]+\s*(;.*)?)?", line.strip()))


def _download(file: Path, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", _PYTHON]
    command += [option for platform in _PLATFORMS for option in ("--platform", platform)]
    command += ["--dest", str(target), "--requirement", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip())
        raise BuildError(f"pip cannot download the wheels of {file.name}: {reason}")
