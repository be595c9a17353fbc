"""Builds the code package of workflows: the tasks' module, mwaa_pipelines, and dbt with all it needs.

The service unpacks it on each worker. Airflow's packages there have versions that do not fit dbt's. So dbt is in
a folder of its own, and a process that sees only this folder runs it.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mwaa_pipelines.serverless.limits import limit, version
from mwaa_pipelines.serverless.workflow import DBT_FOLDER
from mwaa_release.errors import BuildError
from mwaa_release.progress import Progress
from mwaa_release.release import CODE
from mwaa_release.wheels import pinned_versions

# Of the service's workers.
LINUX = ("manylinux2014_x86_64",)
_TASKS = "pipeline_tasks.py"
_PACKAGE = "mwaa_pipelines"
# Of an earlier package in the cache. A build that runs at the same time can need a newer one.
_UNUSED_SECONDS = 24 * 3600
_LEFT_OUT = ("__pycache__", "bin", "tests")


def build_code_package(
    startup: Path, package: Path, target: Path, cache: Path, progress: Progress, platforms: tuple[str, ...] = LINUX
) -> str:
    """Build the code package, and return its key in the bucket.

    Args:
        startup: startup.sh, with the pins of dbt's environment.
        package: folder of mwaa_pipelines.
        target: folder of the artifact, to which the key is relative.
        cache: folder that keeps dbt's packages for the next build.
        progress: receives the current action.
        platforms: tags of the wheels; empty: those of this machine.

    Raises:
        BuildError: the packages cannot be installed, or are too large for the service.
    """
    pins = pinned_versions(startup)
    digest = hashlib.sha256(f"{pins}{platforms}".encode()).hexdigest()[:16]
    installed = cache / digest
    if not (installed / ".ready").is_file():
        progress("installing dbt for the code package", 0, 1)
        _install(pins, installed, platforms)
    files = dict(_files(installed, package))
    size, most = sum(path.stat().st_size for path in files.values()), limit("code_bytes")
    if size > most:
        raise BuildError(
            f"the code package of the workflows has {size:,} bytes, and Amazon MWAA Serverless allows {most:,}. Its "
            f"largest part is {_largest(files)}. Use execution_mode: ecs"
        )
    progress("packing the code package", 0, 1)
    content = hashlib.sha256()
    for inside, path in files.items():
        content.update(f"{inside} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    key = f"{CODE}{content.hexdigest()[:32]}.zip"
    packed = cache / Path(key).name
    if not packed.is_file():
        for path in (*cache.glob("*.zip"), *cache.glob("*.partial")):
            if path.stat().st_mtime < time.time() - _UNUSED_SECONDS:
                path.unlink(missing_ok=True)
        _pack(files, packed)
    (target / key).parent.mkdir(parents=True, exist_ok=True)
    (target / key).write_bytes(packed.read_bytes())
    return key


def _install(pins: str, folder: Path, platforms: tuple[str, ...]) -> None:
    """Install packages into a folder that appears when all of them are there."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-deps", "--only-binary", ":all:"]
    if platforms:
        command += ["--implementation", "cp", "--python-version", version("python")]
        command += [option for platform in platforms for option in ("--platform", platform)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        requirements, target = Path(name, "dbt.txt"), Path(name, "installed")
        requirements.write_text(pins, encoding="utf-8")
        command += ["--target", str(target), "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip())
            raise BuildError(f"pip cannot install dbt for the code package of the workflows: {reason}")
        for record in target.glob("*.dist-info/RECORD"):
            # The programs, which are left out, contain the path of Python, and their digest differs between checkouts.
            lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
            record.write_text("".join(line for line in lines if not line.startswith("../../bin/")), encoding="utf-8")
        (target / ".ready").touch()
        try:
            target.rename(folder)
        except OSError:
            # Another build was faster.
            if not (folder / ".ready").is_file():
                raise


def _files(installed: Path, package: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of the package by their path in it, in a fixed order."""
    for source, folder in ((installed, DBT_FOLDER), (package, _PACKAGE)):
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            if path.is_file() and path.suffix != ".pyc" and path.name != ".ready" and not _is_left_out(inside):
                yield f"{folder}/{inside.as_posix()}", path
    yield _TASKS, package / "serverless" / _TASKS


def _is_left_out(inside: Path) -> bool:
    # Programs and tests are at the top of a package; deeper, a folder can have such a name and be needed.
    return "__pycache__" in inside.parts or inside.parts[0] in _LEFT_OUT


def _largest(files: dict[str, Path]) -> str:
    sizes: dict[str, int] = {}
    for inside, path in files.items():
        part = "/".join(inside.split("/")[:2])
        sizes[part] = sizes.get(part, 0) + path.stat().st_size
    name = max(sizes, key=lambda part: sizes[part])
    return f"{name} with {sizes[name]:,}"


def _pack(files: dict[str, Path], target: Path) -> None:
    """Write a zip with fixed dates, modes and order: the same files give the same bytes."""
    partial = target.with_suffix(f".{os.getpid()}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for inside, path in files.items():
            entry = zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    partial.rename(target)
