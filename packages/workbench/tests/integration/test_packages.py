"""The packages build as wheels and source distributions that a package index accepts, with all of their files."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mwaa_local.mwaa.image import find_uv
from mwaa_local.settings import REPOSITORY
from mwaa_local.testing.state import STATE

PACKAGES = {
    "dbt_audit_trail": "dbt-audit-trail",
    "mwaa_local": "mwaa-local",
    "mwaa_pipelines": "mwaa-pipelines",
    "mwaa_release": "mwaa-release",
    "mwaa_workbench": "workbench",
    "redshift_local": "redshift-local",
}


def build(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment_left = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    return subprocess.run(
        [sys.executable, REPOSITORY / "packages" / "build.py", folder, *options],
        env={**environment_left, "UV": find_uv(STATE / "venvs"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    completed = build(folder, "--publish")
    assert completed.returncode == 0, completed.stderr
    return folder


def sources(package: str) -> set[str]:
    """Return the tracked files of a package's modules."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src"]
    completed = subprocess.run(
        listed, cwd=REPOSITORY / "packages" / package, capture_output=True, text=True, check=True
    )
    names = {name.removeprefix("src/") for name in completed.stdout.splitlines()}
    return {name for name in names if (REPOSITORY / "packages" / package / "src" / name).is_file()}


def test_every_package_becomes_a_wheel_and_a_source_distribution(distributions):
    assert {path.name.split("-")[0] for path in distributions.glob("*.whl")} == set(PACKAGES)
    assert {path.name.split("-")[0] for path in distributions.glob("*.tar.gz")} == set(PACKAGES)
    assert len(list(distributions.iterdir())) == 2 * len(PACKAGES)


def test_twine_accepts_every_distribution(distributions):
    twine = Path(sys.executable).with_name("twine")
    completed = subprocess.run(
        [twine, "check", "--strict", *distributions.iterdir()], capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout
    assert completed.stdout.count("PASSED") == 2 * len(PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_wheel_has_all_files_of_its_modules_and_no_others(distributions, name):
    (wheel,) = distributions.glob(f"{name}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {file for file in archive.namelist() if ".dist-info/" not in file}
    assert files == sources(PACKAGES[name])


@pytest.mark.parametrize("name", PACKAGES)
def test_source_distribution_contains_the_sources_of_its_wheel(distributions, name):
    (sdist,) = distributions.glob(f"{name}-*.tar.gz")
    with tarfile.open(sdist) as archive:
        files = {file.partition("/")[2] for file in archive.getnames()}
    assert files >= {"pyproject.toml", "README.md", *(f"src/{file}" for file in sources(PACKAGES[name]))}
    assert not [file for file in files if file.startswith((".local", ".git/"))]


def test_wheels_contain_the_data_files_that_a_copy_needs(distributions):
    needed = {
        "mwaa_workbench": {"workbench/requirements/tools.txt", "workbench/requirements/scan.txt"},
        "mwaa_local": {"mwaa_local/requirements/mwaa.txt"},
    }
    for name, files in needed.items():
        assert files <= sources(PACKAGES[name])


def test_build_for_a_copy_pins_the_wheels_and_is_reproducible(tmp_path):
    for folder in ("first", "second"):
        completed = build(tmp_path / folder)
        assert completed.returncode == 0, completed.stderr
    first, second = ((tmp_path / folder / "requirements.txt").read_text() for folder in ("first", "second"))
    assert first == second
    assert [line.split("==")[0].replace("-", "_") for line in first.splitlines() if "==" in line] == list(PACKAGES)
    assert {path.suffix for path in (tmp_path / "first").iterdir()} == {".whl", ".txt"}


def test_tag_that_differs_from_the_version_publishes_nothing(tmp_path):
    completed = build(tmp_path, "--publish", GITHUB_REF_NAME="v99.0.0")
    assert completed.returncode == 1
    assert completed.stderr.startswith("the tag v99.0.0 does not match version ")
    assert list(tmp_path.iterdir()) == []
