"""`make add-ecs` adds files that the linters accept, and an image of the versions in startup.sh, with hashes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mwaa_local.settings import Settings, SetupError
from mwaa_local.testing.repository import committed_copy, git
from mwaa_local.testing.state import STATE
from workbench.ecs import add_ecs, hashed_requirements, image_context
from workbench.scan import scan

BIN = Path(sys.executable).parent
FILES = ["infra/ecs.yml", "infra/ecs-deployer.yml", "infra/ecs/Dockerfile", ".github/workflows/image.yml"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this repository with the files."""
    repository = committed_copy(tmp_path_factory.mktemp("ecs") / "repository")
    with pytest.raises(SetupError, match="add-ecs"):
        image_context(repository, repository / "image")
    assert add_ecs(repository) == FILES
    return repository


def test_added_files_pass_the_linters(repository: Path) -> None:
    for command in (
        ["cfn-lint", *FILES[:2]],
        ["zizmor", "--offline", "--persona=pedantic", "--no-progress", "--quiet", ".github"],
        ["yamllint", "--strict", *(name for name in FILES if name.endswith(".yml"))],
    ):
        done = subprocess.run(
            [BIN / command[0], *command[1:]], cwd=repository, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_added_files_pass_the_security_scanners(repository: Path) -> None:
    assert scan(Settings(STATE, 1, 2, 3), repository) == 0


def test_actions_and_base_image_are_pinned_by_hash(repository: Path) -> None:
    workflow, dockerfile = (repository / FILES[3]).read_text(), (repository / FILES[2]).read_text()
    for action in re.findall(r"uses: (\S+)", workflow):
        assert action.startswith("./") or re.fullmatch(r".+@[0-9a-f]{40}", action), action
    images = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(images) == 2
    assert all(re.fullmatch(r"[\w.:-]+@sha256:[0-9a-f]{64}", image) for image in images)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", dockerfile, re.MULTILINE)
    assert "--require-hashes" in dockerfile
    (build,) = re.findall(r"docker buildx build .*", workflow)
    assert "--sbom=true" in build


def test_image_contains_the_compiled_modules_of_a_task(repository: Path) -> None:
    """Python stores them when it imports them, until PYTHONDONTWRITEBYTECODE is set."""
    image = (repository / FILES[2]).read_text().rpartition("\nFROM ")[2]
    command = re.search(r'/opt/dbt/bin/python -c "(.+)"', image.partition("ENV ")[0])
    assert command
    subprocess.run([sys.executable, "-c", command[1]], check=True)


def test_image_has_the_versions_of_startup_sh_with_hashes(repository: Path, tmp_path: Path) -> None:
    image_context(repository, tmp_path / "image")
    requirements = (tmp_path / "image" / "requirements.txt").read_text()
    pins = (repository / "startup.sh").read_text().partition("# pins: begin")[2].partition("# pins: end")[0]
    versions = re.findall(r"^[\w.-]+==[^\s;]+", pins, re.MULTILINE)
    assert re.findall(r"^[\w.-]+==[^\s;]+", requirements, re.MULTILINE) == versions
    assert "dbt-core==1.11" in requirements
    blocks = re.split(r"\n(?=\S)", requirements.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert (tmp_path / "image" / "mwaa_pipelines" / "runner" / "__main__.py").is_file()
    assert (tmp_path / "image" / "Dockerfile").read_text() == (repository / FILES[2]).read_text()
    assert not list((tmp_path / "image").rglob("__pycache__"))


def test_version_without_a_hash_is_named() -> None:
    with pytest.raises(SetupError, match=r"dbt-core==1\.0\.0 of startup"):
        hashed_requirements("# pins: begin\ndbt-core==1.0.0\n# pins: end\n")


def test_uncommitted_changes_are_kept(repository: Path) -> None:
    with pytest.raises(SetupError, match="uncommitted"):
        add_ecs(repository)
    assert "infra/ecs.yml" in git(repository, "status", "--porcelain").stdout
