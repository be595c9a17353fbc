"""Amazon's image on the laptop: a virtual environment with MWAA's packages and requirements.txt."""

import contextlib
import fcntl
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mwaa_local
from mwaa_local.processes import base_environment, tail
from mwaa_local.settings import SetupError

LOCK = Path(mwaa_local.__file__).parent / "requirements" / "mwaa.txt"


class Image:
    """A virtual environment that several checkouts can share.

    Args:
        venv: its folder, beside the virtual environments of the tools and of uv, without symbolic links.
        logs: folder for the logs of uv and pip.
    """

    def __init__(self, venv: Path, logs: Path) -> None:
        self.venv = venv
        self._logs = logs

    @property
    def version(self) -> str:
        """A digest of the packages in the image."""
        return hashlib.sha256(LOCK.read_bytes()).hexdigest()

    def install(self) -> None:
        """Create the environment, if it is missing or outdated.

        Raises:
            SetupError: uv could not install it.
        """
        with self._alone():
            expected = made_from(LOCK, self.venv)
            if read(self.venv / ".ready") == expected:
                return
            command = find_uv(self.venv.parent)
            python = str(self.venv.with_name("tools") / "bin" / "python")
            environment = {**base_environment(), "VIRTUAL_ENV": str(self.venv)}
            log = self._logs / "image.log"
            run([command, "venv", "--clear", "--python", python, str(self.venv)], environment, log)
            run([command, "pip", "sync", "--compile-bytecode", "--require-hashes", str(LOCK)], environment, log)
            freeze = [command, "pip", "freeze"]
            frozen = subprocess.run(freeze, env=environment, capture_output=True, text=True, check=True).stdout
            # Without constraints in requirements.txt, MWAA constrains pip to the versions of its image.
            (self.venv / "constraints.txt").write_text(frozen)
            (self.venv / ".ready").write_text(expected)

    def install_requirements(self, path: Path, environment: dict[str, str]) -> None:
        """Install a requirements.txt by pip with the image's constraints, as MWAA does.

        Args:
            path: the file.
            environment: of pip, with the variables of startup.sh.

        Raises:
            SetupError: pip failed. MWAA would only log the error and start without the packages.
        """
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with self._alone():
            if read(self.venv / ".requirements") == digest:
                return
            command = [str(self.venv / "bin" / "python"), "-m", "pip", "install"]
            command += ["--disable-pip-version-check", "--no-input"]
            command += ["--constraint", str(self.venv / "constraints.txt"), "--requirement", str(path)]
            run(command, environment, self._logs / "requirements.log")
            (self.venv / ".requirements").write_text(digest)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let only one process at a time install into the folder."""
        self.venv.parent.mkdir(parents=True, exist_ok=True)
        with self.venv.with_name("mwaa.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def made_from(lock: Path, venv: Path) -> str:
    """Return what `.ready` says in a finished environment: a digest of its packages, and its folder.

    The first lines of its scripts name the folder, so they fail when a checkout was moved.
    """
    return f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {venv}"


def find_uv(venvs: Path) -> str:
    """Return the uv executable that `make deps` installed into the folder `venvs`, or else the one on the PATH."""
    fetched = venvs / "uv" / "bin" / "uv"
    return str(fetched.resolve()) if fetched.exists() else "uv"


def run(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Run a command, and write its output into a file.

    Raises:
        SetupError: the command failed; the text shows the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        code = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        name = " ".join([Path(command[0]).name, *command[1:3]])
        raise SetupError(f"{name} failed with exit code {code}; {log} ends with:\n{tail(log)}")


def read(path: Path) -> str | None:
    """Return the text of a file, or None if the file does not exist."""
    return path.read_text() if path.exists() else None
