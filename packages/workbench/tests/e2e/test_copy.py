"""A copy of the template runs, tests, lints and builds models with its wheels and without packages/."""

import os
import subprocess
from pathlib import Path

import pytest

from mwaa_local.testing.checkout import PORTS
from mwaa_local.testing.repository import committed_copy, git
from mwaa_local.testing.state import STATE
from redshift_local.pytest_plugin import free_port
from workbench.template import start_fresh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

VENVS = STATE / "venvs"


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A committed copy with its own tools environment. It shares uv and MWAA's image with this checkout."""
    folder = tmp_path_factory.mktemp("copy")
    template = committed_copy(folder / "template")
    copy = folder / "my-data"
    git(template, "clone", "--quiet", str(template), str(copy))
    start_fresh(copy, "", VENVS)
    git(copy, "commit", "--quiet", "--message", "Start")
    (copy / ".local" / "venvs").mkdir(parents=True)
    for name in ("uv", "mwaa"):
        if (VENVS / name).exists():
            (copy / ".local" / "venvs" / name).symlink_to((VENVS / name).resolve())
    return copy


def run(copy: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment_left = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LOCAL_", "PYTEST_", "MAKE", "MFLAGS"))
    }
    ports = {name: str(free_port()) for name in PORTS}
    return subprocess.run(
        command, cwd=copy, env={**environment_left, **ports}, capture_output=True, text=True, check=False
    )


def make(copy: Path, *arguments: str) -> str:
    completed = run(copy, "make", "--no-print-directory", *arguments)
    assert completed.returncode == 0, f"make {' '.join(arguments)}\n{completed.stdout}\n{completed.stderr}"
    return completed.stdout


def test_copy_installs_its_wheels(copy):
    assert not (copy / "packages").exists()
    assert run(copy, ".ci/bootstrap.sh", "--check").returncode == 1
    make(copy, "deps")
    assert run(copy, ".ci/bootstrap.sh", "--check").returncode == 0
    show = "import mwaa_local, importlib.metadata as m; print(mwaa_local.__file__, m.version('mwaa-local'))"
    installed, version = run(copy, ".local/venvs/tools/bin/python", "-c", show).stdout.split()
    assert Path(installed).is_relative_to(copy / ".local")
    assert f"mwaa-local=={version} " in (copy / "wheels" / "requirements.txt").read_text()
    assert (copy / ".local" / "pipelines.schema.json").is_file()


def test_copy_builds_a_new_model(copy):
    make(copy, "new-model", "NAME=orders", "LAYER=marts")
    model = copy / "dbt_project" / "models" / "marts" / "orders.sql"
    model.write_text("select 1 as orders_key\n")
    model.with_suffix(".yml").write_text(
        "models:\n  - name: orders\n    columns:\n      - name: orders_key\n        data_type: integer\n"
    )
    try:
        make(copy, "build", "M=orders")
        assert make(copy, "show", "M=orders").splitlines()[-1] == "1"
    finally:
        git(copy, "clean", "--quiet", "--force", "dbt_project")
        make(copy, "down")


def test_copy_passes_its_linters_and_scanners(copy):
    make(copy, "lint", "scan")


def test_copy_passes_its_tests(copy):
    make_output = make(copy, "test")
    # They release and run its pipeline.
    assert "failed" not in make_output
    assert not git(copy, "status", "--porcelain").stdout
