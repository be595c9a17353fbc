"""Builds the packages of this folder. It needs only Python and uv.

    python packages/build.py <folder>            wheels, and requirements.txt with their versions and hashes: for a copy
    python packages/build.py <folder> --publish  wheels and source distributions: for a package index

Copier runs the first command for each copy (copier.yml), and .github/workflows/publish.yml runs the second.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

PACKAGES = sorted(path.parent for path in Path(__file__).resolve().parent.glob("*/pyproject.toml"))
_HEADER = """\
# The packages that run the Makefile's commands, by version and hash. `make upgrade` writes this file.
# A wheel that is not in this folder comes from the package index.
"""


def uv() -> str:
    """Return the uv executable from the variable UV, or the one on the PATH."""
    executable = shutil.which(os.environ.get("UV", "uv"))
    return executable or sys.exit("uv was not found. Install it (pip install uv), or name it in the variable UV")


def build(folder: Path, *options: str) -> None:
    """Build every package into `folder` with `uv build`, replacing an earlier build."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]:
        path.unlink()
    for package in PACKAGES:
        command = [uv(), "build", "--quiet", *options, "--out-dir", folder, package]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"packages/{package.name} could not be built. See uv's message above")
    # uv creates a .gitignore for its output, but a copy commits its wheels.
    (folder / ".gitignore").unlink(missing_ok=True)


def requirements(folder: Path) -> str:
    """Return the requirements.txt that pins the wheels of a folder."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name.replace('_', '-')}=={version} --hash=sha256:{digest}\n")
    return _HEADER + "".join(lines)


def version() -> str:
    """Return the version that all packages share."""
    versions = {tomllib.loads((package / "pyproject.toml").read_text())["project"]["version"] for package in PACKAGES}
    if len(versions) != 1:
        sys.exit(f"packages/*/pyproject.toml: different versions: {', '.join(sorted(versions))}. Use one version")
    return versions.pop()


def main() -> None:
    """Run the build that the arguments select."""
    folder = Path(sys.argv[1])
    if "--publish" not in sys.argv:
        build(folder, "--wheel")
        (folder / "requirements.txt").write_text(requirements(folder))
        return
    tag = os.environ.get("GITHUB_REF_NAME", f"v{version()}")
    if tag != f"v{version()}":
        sys.exit(f"the tag {tag} does not match version {version()} of the packages. Change the tag or the version")
    build(folder)


if __name__ == "__main__":
    main()
