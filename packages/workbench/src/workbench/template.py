"""`start-fresh` turns a clone of the template into a copy, and `upgrade` upgrades a copy to a newer version.

Both use Copier. `copier.yml` in the template lists the files of a copy. A copy's version is in `.copier-answers.yml`.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from mwaa_local.mwaa.image import find_uv
from mwaa_local.settings import SetupError
from mwaa_local.signals import deferred, uninterrupted

ANSWERS = ".copier-answers.yml"
# Nobody edits these files, so an upgrade always replaces them.
_GENERATED = (ANSWERS, "wheels/")
# Pages that a team has changed are kept. All other pages are upgraded.
_DOCS = "docs/"
_MERGE_BY_HAND = ".local/venvs/tools/bin/copier update --trust --defaults"


def start_fresh(repository: Path, template: str, venvs: Path) -> int:
    """Replace the files of a clone of the template by the files of a copy, and stage them. Return the number of files.

    Args:
        repository: the clone, without uncommitted changes.
        template: address of the template, for later upgrades; empty: the clone's remote `origin`.
        venvs: folder of the virtual environments, in which uv may be.

    Raises:
        SetupError: the clone cannot become a copy. Nothing was changed.
    """
    check_clean(repository)
    if not is_template(repository):
        raise SetupError(f"{repository} is a copy already: it has no copier.yml. Nothing was changed")
    template = template or _origin(repository)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "copy"
        _copier(venvs, temporary, "copy", "--vcs-ref=HEAD", str(repository), str(copy))
        _set_template(copy, template)
        with uninterrupted():
            _replace_files(repository, copy)
    return len(_tracked(repository))


def _replace_files(repository: Path, copy: Path) -> None:
    for name in _tracked(repository):
        (repository / name).unlink(missing_ok=True)
    for folder in (path for path in repository.iterdir() if path.is_dir() and path.name not in (".git", ".local")):
        if not (copy / folder.name).exists():
            # The folder contains only files that git ignores, such as compiled Python.
            shutil.rmtree(folder)
    shutil.copytree(copy, repository, dirs_exist_ok=True)
    stage(repository)


def stage(repository: Path) -> None:
    """Stage all changes."""
    _git(repository, "add", "--all")


class Upgrade:
    """A prepared upgrade of a copy, in a clone of the copy. Use as a context manager.

    Args:
        repository: the copy, without uncommitted changes.
        template: address of the template; empty: the template of the copy.
        venvs: folder of the virtual environments, in which uv may be.

    Raises:
        SetupError: the copy cannot be upgraded.
    """

    def __init__(self, repository: Path, template: str, venvs: Path) -> None:
        check_clean(repository)
        if is_template(repository):
            raise SetupError(f"{repository} is the template itself; it has no version to upgrade to. Use git pull")
        if not (repository / ANSWERS).is_file():
            raise SetupError(f"{ANSWERS} is missing. It says which version this copy has. Restore it with git")
        self._repository = repository
        self._temporary = tempfile.TemporaryDirectory()
        try:
            self._clone = self._upgraded_clone(template, venvs)
        except BaseException:
            self._temporary.cleanup()
            raise

    def __enter__(self) -> "Upgrade":
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()

    def _upgraded_clone(self, template: str, venvs: Path) -> Path:
        clone, original = Path(self._temporary.name) / "clone", Path(self._temporary.name) / "original"
        _git(self._repository, "clone", "--quiet", str(self._repository), str(clone))
        if template:
            _set_template(clone, template)
            identity = ("-c", "user.name=upgrade", "-c", "user.email=upgrade@localhost", "-c", "commit.gpgsign=false")
            _git(clone, *identity, "commit", "--quiet", "--no-verify", "--allow-empty", "--all", "--message=template")
        answers = yaml.safe_load((clone / ANSWERS).read_text())
        commit, source = str(answers["_commit"]), str(answers["_src_path"])
        try:
            # The original copy, without the team's changes.
            _copier(venvs, self._temporary.name, "copy", "--skip-tasks", f"--vcs-ref={commit}", source, str(original))
        except SetupError as error:
            raise SetupError(
                f"version {commit} of the template could not be read from {source}: {error}. "
                "If the template moved: make upgrade TEMPLATE=<address>"
            ) from error
        self._changed_here = {
            name
            for name in {*_tracked(clone), *(str(path.relative_to(original)) for path in original.rglob("*"))}
            if _content(clone / name) != _content(original / name)
        }
        own_pages = [name for name in self._changed_here if name.startswith(_DOCS) and (clone / name).is_file()]
        _copier(
            venvs,
            self._temporary.name,
            "update",
            "--conflict=inline",
            *(f"--skip={name}" for name in own_pages),
            str(clone),
        )
        _git(clone, "add", "--all")
        return clone

    @property
    def diff(self) -> str:
        """Return the changes of the upgrade as a git diff, which is empty without changes."""
        colors = "always" if sys.stdout.isatty() else "never"
        return _git(self._clone, "diff", "--cached", f"--color={colors}", self._base)

    @property
    def conflicts(self) -> list[str]:
        """Return the files that both the upgrade and the team changed."""
        names = _git(self._clone, "diff", "--cached", "--name-only", "-z", self._base).split("\0")
        return sorted(name for name in names if name in self._changed_here and not name.startswith(_GENERATED))

    def apply(self) -> None:
        """Apply the changes to the copy, and stage them.

        Raises:
            SetupError: a file was changed in both places; nothing was changed.
        """
        if self.conflicts:
            raise SetupError(
                f"the new version changes files that were changed here too: {', '.join(self.conflicts)}. "
                f"Nothing was changed. Undo the changes here, or merge them by hand: {_MERGE_BY_HAND}"
            )
        patch = _git(self._clone, "diff", "--cached", "--binary", self._base)
        with uninterrupted():
            _git(self._repository, "apply", "--index", "--whitespace=nowarn", text=patch)

    @property
    def _base(self) -> str:
        return _git(self._repository, "rev-parse", "HEAD").strip()


def is_template(repository: Path) -> bool:
    """Whether this is the template, or a clone of it, and not a copy."""
    return (repository / "copier.yml").is_file()


def check_clean(repository: Path) -> None:
    """Raise if git could not undo a change.

    Raises:
        SetupError: there are uncommitted changes, or the folder is not a git repository.
    """
    if _git(repository, "status", "--porcelain"):
        raise SetupError("there are uncommitted changes. Commit them first: git add --all && git commit")


def add_files(repository: Path, files: Mapping[Path, str]) -> list[str]:
    """Copy files into a repository, and return their paths in it. Replaces earlier versions.

    Args:
        repository: without uncommitted changes, so that git can undo this.
        files: paths in the repository by the file to copy.

    Raises:
        SetupError: the repository has uncommitted changes.
    """
    check_clean(repository)
    for source, target in files.items():
        (repository / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, repository / target)
    return list(files.values())


def _origin(repository: Path) -> str:
    remotes = _git(repository, "remote").split()
    if "origin" not in remotes:
        raise SetupError("this clone has no remote `origin`. Name the template: make start-fresh TEMPLATE=<address>")
    return _git(repository, "remote", "get-url", "origin").strip()


def _set_template(copy: Path, template: str) -> None:
    path = copy / ANSWERS
    lines = [line for line in path.read_text().splitlines() if not line.startswith("_src_path:")]
    path.write_text("\n".join([*lines, yaml.safe_dump({"_src_path": template}).rstrip()]) + "\n")


def _tracked(repository: Path) -> list[str]:
    return list(filter(None, _git(repository, "ls-files", "-z").split("\0")))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _git(repository: Path, *arguments: str, text: str | None = None) -> str:
    # In a new session: Ctrl-C must not stop git while it changes the files of the repository.
    done = subprocess.run(
        ["git", *arguments],
        cwd=repository,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode:
        raise SetupError(f"git {' '.join(arguments[:2])} failed in {repository}: {done.stderr.strip()}")
    return done.stdout


def _copier(venvs: Path, temporary: str, *arguments: str) -> None:
    # Copier builds the wheels with uv and asks no questions. If it is killed, it leaves temporary files.
    environment = {**os.environ, "UV": find_uv(venvs), "TMPDIR": temporary}
    command, *rest = arguments
    executable = str(Path(sys.executable).with_name("copier"))
    process = None
    try:
        with deferred():
            process = subprocess.Popen(
                [executable, command, "--trust", "--defaults", "--quiet", *rest],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        _, output = process.communicate()
    except BaseException:
        if process:
            # It can have ended already.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
    if process.returncode:
        message = output.strip()
        # Copier prints a traceback for unexpected errors, such as a missing template.
        reason = message.splitlines()[-1] if "Traceback (most recent call last)" in message else message
        raise SetupError(f"copier {command} failed: {reason}")
