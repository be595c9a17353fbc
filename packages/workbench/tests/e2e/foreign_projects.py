"""Downloads third-party dbt projects from source distributions on the package index."""

import hashlib
import io
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import httpx

from mwaa_local.mwaa.image import find_uv
from mwaa_local.testing.state import STATE


@dataclass(frozen=True)
class ThirdPartyProject:
    """A third-party dbt project.

    Args:
        distribution: the source distribution that contains the project.
        version: the version of the distribution.
        sha256: the hash of the reviewed archive.
        folder: the project's folder in the archive.
        project_name: the `name:` in dbt_project.yml.
    """

    distribution: str
    version: str
    sha256: str
    folder: str
    project_name: str

    def fetch(self, target: Path) -> Path:
        """Download the archive from uv's configured index and unpack the project into `target`.

        Raises:
            AssertionError: the archive's hash differs from `sha256`.
        """
        target.mkdir(parents=True)
        # uv only resolves the archive's URL here. It installs and builds nothing.
        lock_file = subprocess.run(
            [
                find_uv(STATE / "venvs"),
                "pip",
                "compile",
                "--quiet",
                "--no-deps",
                "--python",
                sys.executable,
                "--format",
                "pylock.toml",
                "-",
            ],
            input=f"{self.distribution}=={self.version}",
            cwd=target,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        (package,) = tomllib.loads(lock_file)["packages"]
        response = httpx.get(package["sdist"]["url"], follow_redirects=True, timeout=120).raise_for_status()
        digest = hashlib.sha256(response.content).hexdigest()
        assert digest == self.sha256, f"{self.distribution} {self.version} has changed: {digest}"
        project_folder = f"{self.distribution.replace('-', '_')}-{self.version}/{self.folder}"
        with tarfile.open(fileobj=io.BytesIO(response.content)) as archive:
            members = [member for member in archive if member.name.startswith(f"{project_folder}/")]
            archive.extractall(target, members, filter="data")
        return target / project_folder
