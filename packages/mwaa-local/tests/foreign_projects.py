"""dbt projects that other people wrote, as they lie in source archives of the package index: fetched, never kept."""

import hashlib
import io
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import httpx

from mwaa_local.settings import REPOSITORY


@dataclass(frozen=True)
class OthersProject:
    """A dbt project of somebody else's.

    Args:
        distribution: the source distribution that holds it.
        version: its version.
        sha256: of the reviewed archive.
        folder: where in the archive the project lies.
        project_name: the `name:` in its dbt_project.yml.
        source_schema: the schema that its sources are in, if it has any.
    """

    distribution: str
    version: str
    sha256: str
    folder: str
    project_name: str
    source_schema: str = "landing"

    def fetch(self, target: Path) -> Path:
        """Unpack the project into `target`, from whichever index uv is set up with.

        Raises:
            AssertionError: the archive is not the one that was pinned.
        """
        target.mkdir(parents=True)
        uv = REPOSITORY / ".local" / "venvs" / "uv" / "bin" / "uv"
        # Nothing is installed or built: uv only says where the archive is.
        lock_file = subprocess.run(
            [
                uv if uv.exists() else "uv",
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
        answer = httpx.get(package["sdist"]["url"], follow_redirects=True, timeout=120).raise_for_status()
        digest = hashlib.sha256(answer.content).hexdigest()
        assert digest == self.sha256, f"{self.distribution} {self.version} has changed: {digest}"
        inside = f"{self.distribution.replace('-', '_')}-{self.version}/{self.folder}"
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
            members = [member for member in archive if member.name.startswith(f"{inside}/")]
            archive.extractall(target, members, filter="data")
        return target / inside
