"""Without a package index, wheels from S3 are enough for a successful pipeline run."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mwaa_local.aws import seed
from mwaa_local.testing.checkout import Checkout
from mwaa_local.testing.scene import DAG, Scene, running
from mwaa_release.progress import Steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Nothing listens on port 1, so every connection is refused.
REFUSED = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
MODELS = {"one.sql": "select 1 as id"}


class Offline(Scene):
    """Stand-ins without dbt, which lose the package index after the release is built."""

    parameters: Mapping[str, str] = {"PackageSource": "wheels"}

    def __init__(self, checkout: Checkout, options: Mapping[str, object]) -> None:
        super().__init__(checkout, options)
        (checkout.state / "mwaa" / "dbt_venv").unlink()

    def release(self, steps: Steps, project: Path) -> str:
        """Release, then make the package index unreachable."""
        release_id = super().release(steps, project)
        for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
            del os.environ[name]
        os.environ.update(REFUSED)
        return release_id


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("offline"), MODELS, {}, Offline) as stack:
        yield stack


def test_pipeline_succeeds_with_dbt_from_wheels(scene: Scene) -> None:
    home = scene.settings.state / "mwaa"
    assert not (home / "dbt_venv").is_symlink()
    assert (home / "dbt_venv" / ".ready").is_file()
    run_id = scene.client.trigger(DAG)
    assert scene.ended(run_id) == "success"
    stored = seed.client(scene.settings, "s3").list_objects_v2(Bucket=seed.DAGS_BUCKET, Prefix="wheels/")["Contents"]
    assert len(list((home / "wheels").iterdir())) == len(stored)


def test_requirements_are_installed_from_wheels(scene: Scene, tmp_path: Path) -> None:
    # The shared virtual environment has these packages already. This copy links to all its other packages.
    home, image = scene.settings.state / "mwaa", scene.settings.state / "venvs" / "mwaa"
    pinned = re.findall(r"^([\w-]+)==", (home / "requirements.txt").read_text(), re.MULTILINE)
    subprocess.run([image / "bin" / "python", "-m", "venv", tmp_path / "venv"], check=True)
    packages, target = (
        next((environment / "lib").glob("python*/site-packages")) for environment in (image, tmp_path / "venv")
    )
    for path in packages.iterdir():
        name = path.name.partition("-")[0].replace("_", "-")
        if path.name.endswith(".dist-info") and name not in pinned and not (target / path.name).exists():
            (target / path.name).symlink_to(path)
    command = [tmp_path / "venv" / "bin" / "python", "-m", "pip", "install", "--dry-run", "--report", "-", "--quiet"]
    command += ["--constraint", image / "constraints.txt", "--requirement", home / "requirements.txt"]

    def install(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **variables}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert "No matching distribution found for astronomer-cosmos" in install().stderr
    completed = install(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(home / "wheels"))
    assert completed.returncode == 0, completed.stderr
    assert {item["metadata"]["name"].replace("_", "-") for item in json.loads(completed.stdout)["install"]} == set(
        pinned
    )
