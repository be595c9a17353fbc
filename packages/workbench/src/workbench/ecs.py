"""`make add-ecs`: what a repository needs to run dbt in ECS, and the folder that the image is built from."""

import re
import shutil
from pathlib import Path

import mwaa_release.ecs
from mwaa_local.settings import SetupError
from mwaa_release.build import PIPELINES_PACKAGE, pipelines_package
from workbench.lock import REQUIREMENT_FILES
from workbench.template import add_files

_PACKAGE = Path(mwaa_release.ecs.__file__).parent
# Where the files of the package go.
_FILES = {
    "ecs.yml": "infra/ecs.yml",
    "ecs-deployer.yml": "infra/ecs-deployer.yml",
    "Dockerfile": "infra/ecs/Dockerfile",
    "image.yml": ".github/workflows/image.yml",
}
_PIN = re.compile(r"^([\w.-]+)==([^\s;]+)(.*)$", re.MULTILINE)


def add_ecs(repository: Path) -> list[str]:
    """Add the stack, the image and the workflow to a repository, and return their paths. See `add_files`."""
    return add_files(repository, {_PACKAGE / name: path for name, path in _FILES.items()})


def image_context(repository: Path, folder: Path) -> None:
    """Write the folder from which `docker build` makes the image: Dockerfile, requirements.txt, mwaa_pipelines.

    Args:
        repository: with startup.sh and, after `add_ecs`, infra/ecs/Dockerfile.
        folder: is created, or replaced.

    Raises:
        SetupError: the repository has no Dockerfile, or a version of startup.sh has no hash.
    """
    dockerfile = repository / _FILES["Dockerfile"]
    if not dockerfile.is_file():
        raise SetupError(f"{dockerfile} is missing. Add it with: make add-ecs")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(dockerfile, folder / "Dockerfile")
    requirements = hashed_requirements((repository / "startup.sh").read_text())
    (folder / "requirements.txt").write_text(requirements)
    shutil.copytree(
        pipelines_package(), folder / PIPELINES_PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )


def hashed_requirements(startup: str) -> str:
    """Return the versions that startup.sh installs, with the hashes of the tools, which have the same versions.

    Raises:
        SetupError: a version of startup.sh has no hash.
    """
    hashes = {}
    for block in re.split(r"\n(?=\S)", REQUIREMENT_FILES["tools"].read_text()):
        if match := _PIN.match(block):
            hashes[match[1], match[2]] = re.findall(r"--hash=\S+", block)
    pins = startup.partition("# pins: begin")[2].partition("# pins: end")[0]
    lines = []
    for name, version, marker in _PIN.findall(pins):
        if not (known := hashes.get((name, version))):
            raise SetupError(
                f"{name}=={version} of startup.sh is not among the hashed requirements of the tools. Do not change the "
                "versions by hand: make upgrade brings new ones"
            )
        lines.append(" \\\n    ".join([f"{name}=={version}{marker}", *known]))
    return "\n".join([*lines, ""])
