"""Build an artifact: everything that goes to the bucket, built once and identical for every environment."""

import functools
import importlib.metadata
import importlib.util
import shutil
import subprocess
import warnings
import zipfile
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from mwaa_pipelines.selection import AUDIT_FILE
from mwaa_pipelines.serverless.workflow import CODE_FILE
from mwaa_release import overdue_runs
from mwaa_release.errors import BuildError, SetupError
from mwaa_release.manifest import (
    PACKAGES_MARKER,
    build_manifest,
    install_packages,
    local_packages,
    output_folders,
    packages_folder,
    project_name,
    project_settings,
    to_json,
)
from mwaa_release.parse_cache import cached_manifest
from mwaa_release.pipelines import dbt_environment, pipelines_by_project
from mwaa_release.products import ParsedProject, find_product_problems
from mwaa_release.progress import Progress, no_progress
from mwaa_release.release import (
    DAGS,
    LAMBDA_ZIP,
    MANIFEST_FILE,
    PROJECTS,
    RELEASE_FILE,
    ROOT_FILES,
    WHEELS,
    Artifact,
    Release,
    list_files,
)
from mwaa_release.repository import REPOSITORY, github_address, state_folder
from mwaa_release.schedules import write_schedules
from mwaa_release.selections import list_arguments, write_selections
from mwaa_release.serverless.code_package import LINUX, build_code_package
from mwaa_release.serverless.definition import write_workflow
from mwaa_release.wheels import download_wheels

# The package that DAG files import. Each artifact contains it.
PIPELINES_PACKAGE = "mwaa_pipelines"
PIPELINES_FILE = f"{DAGS}pipelines.yml"
# The function that comes with this package, beside those of the repository.
_FUNCTION = Path(overdue_runs.__file__)

# Generated files and files of one machine, for folders outside of git. A dbt project's `tests` folder is needed,
# because dbt runs these tests.
_EXCLUDED_NAMES = {
    *("__pycache__", ".DS_Store", ".git", ".ruff_cache", ".pytest_cache"),
    *(".venv", "venv", ".env", ".envrc"),
}
# Only directly in a project's folder: a folder of models can be called `logs`.
_EXCLUDED_IN_PROJECT = {
    *("profiles.yml", ".user.yml", RELEASE_FILE, MANIFEST_FILE, "package-lock.yml"),
    *(".sqlfluff", ".sqlfluffignore", ".gitignore", ".gitattributes"),
}


def find_projects(repository: Path = REPOSITORY) -> list[Path]:
    """Return the dbt projects of a repository: each top-level folder with a dbt_project.yml.

    A folder without profiles.yml that another project lists as a package is not a project.
    """
    folders = sorted(path.parent for path in repository.glob("*/dbt_project.yml"))
    packages = {package for folder in folders for package in local_packages(folder)}
    return [folder for folder in folders if folder.resolve() not in packages or (folder / "profiles.yml").is_file()]


def build(
    output: Path,
    project_dirs: list[Path] | None = None,
    repository: Path = REPOSITORY,
    progress: Progress = no_progress,
    wheels: bool = False,
    cache: Path | None = None,
    platforms: tuple[str, ...] = LINUX,
    pipelines_file: Path | None = None,
) -> Artifact:
    """Build the artifact of a repository into `output`, replacing an earlier artifact.

    Only the dbt_packages/ of a project with packages changes in the repository. dbt parses the files of the artifact,
    without a warehouse.

    Args:
        output: folder for the artifact.
        project_dirs: dbt projects; default: all in the repository. They can be outside, such as a changed copy.
        repository: folder with `dags/`, `lambda/`, requirements.txt and startup.sh.
        progress: receives the current action, the number of finished steps and the total.
        wheels: also download the packages that MWAA's containers install.
        cache: folder of `parse_cache`; default: parse each project.
        platforms: tags of the wheels in the code package of workflows; empty: those of this machine.
        pipelines_file: instead of the repository's pipelines.yml.

    Raises:
        BuildError: a dbt project does not parse; the message is dbt's. Or pipelines.yml or a DAG file has a mistake, a
            project reads a private model of another one, or a wheel cannot be downloaded.
        SetupError: a file or package is missing.
    """
    projects = [path.resolve() for path in (project_dirs or find_projects(repository))]
    if not projects:
        raise SetupError(f"{repository} has no dbt project: none of its folders contains a dbt_project.yml")
    named: dict[str, Path] = {}
    for project in projects:
        name = project_name(project)
        if name in named:
            raise BuildError(f"{named[name]} and {project} have the same name {name!r}; change `name:` in one")
        named[name] = project
    pipelines_file = pipelines_file or repository / PIPELINES_FILE
    pipelines = pipelines_by_project(pipelines_file, named, complete=not project_dirs)

    now = datetime.now(UTC)
    git_sha, dirty = git_state(repository, projects)
    release_id = f"{now:%Y%m%dT%H%M%SZ}-{git_sha[:7]}{'-dirty' if dirty else ''}"
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        if (repository / DAGS).is_dir():
            _check_syntax(repository / DAGS)
            _copy(repository / DAGS, partial / DAGS)
            if pipelines_file.is_file():
                shutil.copyfile(pipelines_file, partial / PIPELINES_FILE)
            # Only releases belong into this folder.
            shutil.rmtree(partial / PROJECTS, ignore_errors=True)
            _copy(pipelines_package(), partial / DAGS / PIPELINES_PACKAGE)
            _ignore_in_airflow(partial / DAGS / ".airflowignore")
        for file in ROOT_FILES:
            if (repository / file).is_file():
                shutil.copyfile(repository / file, partial / file)
        if (repository / "lambda").is_dir():
            zip_functions(repository / "lambda", partial / LAMBDA_ZIP)
        if wheels:
            progress("downloading wheels", 0, len(named))
            download_wheels(partial / "startup.sh", partial / "requirements.txt", partial / WHEELS)
        code = ""
        if any(pipeline.is_workflow for entries in pipelines.values() for pipeline in entries):
            code = build_code_package(
                repository / "startup.sh",
                pipelines_package(),
                partial,
                state_folder() / "serverless",
                progress,
                platforms,
            )
        parsed, without_audit = [], set()
        for number, (name, project) in enumerate(named.items()):
            progress(f"dbt parse: {name}", number, len(named))
            folder = partial / PROJECTS / name / release_id
            install_packages(project)
            copy_project(project, folder)
            for package in local_packages(project):
                # dbt reads the copy in dbt_packages/.
                if package.is_relative_to(project):
                    shutil.rmtree(folder / package.relative_to(project), ignore_errors=True)
            parse = functools.partial(cached_manifest, cache) if cache else build_manifest
            manifest, listings = parse(
                folder, project / "profiles.yml", list_arguments(pipelines[name]), dbt_environment(pipelines[name])
            )
            (folder / MANIFEST_FILE).write_bytes(to_json(manifest))
            write_selections(folder, pipelines[name], manifest, listings, pipelines_file)
            for pipeline in pipelines[name]:
                if pipeline.is_workflow:
                    write_workflow(folder, pipeline, pipelines_file)
                    (folder / CODE_FILE).write_text(f"{code}\n")
            parsed.append(ParsedProject(manifest, pipelines[name], listings))
            if not listings[AUDIT_FILE].nodes:
                without_audit.add(name)
            release = Release(
                release_id=release_id,
                project_name=name,
                git_sha=git_sha,
                built_at=now.isoformat(timespec="seconds"),
                dbt_version=importlib.metadata.version("dbt-core"),
                files=list_files(folder),
                repository=github_address(repository),
            )
            (folder / RELEASE_FILE).write_bytes(release.to_json())
        if problems := find_product_problems(parsed, pipelines_file):
            raise BuildError("\n".join(problems))
        if (partial / PIPELINES_FILE).is_file():
            write_schedules(partial / DAGS, without_audit)
        shutil.rmtree(output, ignore_errors=True)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress("built", len(named), len(named))
    return Artifact.read(output)


def _check_syntax(folder: Path) -> None:
    """Check the Python files directly in a folder. Python here has the version of MWAA's."""
    for path in sorted(folder.glob("*.py")):
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(path.read_bytes(), path, "exec")
        except SyntaxError as error:
            raise BuildError(
                f"{path}:{error.lineno}: {type(error).__name__}: {error.msg}\n    {(error.text or '').strip()}\n"
                "Airflow could not import this file. Correct it, then run the command again"
            ) from None


def pipelines_package() -> Path:
    """Return the folder of the installed `mwaa_pipelines` package, which the DAG files import.

    Raises:
        SetupError: the package is not installed.
    """
    # Do not import the package: it needs Airflow, which is not installed here.
    spec = importlib.util.find_spec(PIPELINES_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(f"the package {PIPELINES_PACKAGE} is not installed; install it with: make deps")
    return Path(spec.submodule_search_locations[0])


def _ignore_in_airflow(path: Path) -> None:
    """Exclude the package and the releases from Airflow's search for DAGs."""
    lines = path.read_text().splitlines() if path.is_file() else []
    path.write_text("\n".join([*lines, f"{PIPELINES_PACKAGE}/", f"{PurePosixPath(PROJECTS).name}/"]) + "\n")


def _copy(source: Path, target: Path, excluded_paths: Collection[Path] = ()) -> None:
    def ignore(folder: str, names: list[str]) -> set[str]:
        return {
            name
            for name in names
            if name in _EXCLUDED_NAMES or name.endswith((".pyc", "~", ".swp")) or Path(folder, name) in excluded_paths
        }

    shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)


def copy_project(project: Path, target: Path, without: Collection[Path] = ()) -> None:
    """Copy a dbt project with its packages, without files that dbt generates or git ignores.

    A package of the repository is a link in dbt_packages/. The copy has its files.

    Args:
        project: folder with dbt_project.yml.
        target: folder of the copy.
        without: files and folders to leave out.

    Raises:
        BuildError: git ignores a model.
    """
    settings = project_settings(project)
    packages = packages_folder(project, settings)
    excluded = {project / name for name in _EXCLUDED_IN_PROJECT} | output_folders(project, settings)
    excluded.add(packages / PACKAGES_MARKER)
    # Of a package that somebody develops in its folder.
    excluded |= {package / name for package in packages.glob("*") for name in ("target", "logs", "dbt_packages")}
    ignored = _ignored_by_git(project) - {packages}
    for name in settings.get("model-paths") or ["models"]:
        for path in sorted(ignored):
            if path.is_relative_to(project / name) and (path.suffix == ".sql" or any(path.rglob("*.sql"))):
                raise BuildError(
                    f"git ignores {path}, so the release would be without it. Change .gitignore, or rename or move it"
                )
    _copy(project, target, excluded | ignored | set(without))


def _ignored_by_git(folder: Path) -> set[Path]:
    """Return the files and folders in a folder that git ignores; none outside of git, or if git ignores all of it."""
    if _git(folder, "check-ignore", "--quiet", ".") is not None:
        return set()
    ignored = _git(folder, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z") or ""
    return {folder / name for name in ignored.split("\0") if name}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of a git command; None if it failed, or git is not installed."""
    try:
        run = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def zip_functions(source: Path, target: Path) -> None:
    """Write the code of the repository's folder `lambda/`, and of the function of this package, as a zip."""
    files = {Path(_FUNCTION.name): _FUNCTION} | {path.relative_to(source): path for path in source.rglob("*")}
    # Fixed date, mode and order: the same sources give the same bytes.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, path in sorted(files.items()):
            if path.is_file() and path.suffix != ".pyc" and not _EXCLUDED_NAMES & set(inside.parts):
                entry = zipfile.ZipInfo(inside.as_posix(), (1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())


def git_state(repository: Path, projects: list[Path]) -> tuple[str, bool]:
    """Return the commit (`unknown` outside of git), and whether the released files differ from it."""

    commit = _git(repository, "rev-parse", "HEAD")
    if commit is None:
        return "unknown", False
    released = [DAGS, "lambda", *ROOT_FILES, *(str(path) for path in projects if path.is_relative_to(repository))]
    outside = any(not path.is_relative_to(repository) for path in projects)
    return commit, outside or bool(_git(repository, "status", "--porcelain", "--", *released))
