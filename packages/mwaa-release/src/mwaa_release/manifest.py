"""Let dbt parse a project, and return the parts of its manifest that do not change from run to run."""

import fcntl
import itertools
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from audit_report import DBT_PACKAGE
from mwaa_release.errors import BuildError, SetupError
from mwaa_release.run_dbt import Listing, clean_environment, parse_and_list, run_dbt

# Metadata of one run of dbt. Neither Cosmos nor dbt's `--state` reads it.
_RUN_METADATA = ("generated_at", "invocation_id", "invocation_started_at", "user_id", "run_started_at", "env")
_PARSE_TIMEOUT_SECONDS = 600
# What packages.yml names: a link to the installed dbt package, which is source in the template and a wheel in a copy.
AUDIT_TRAIL = "../.local/audit_trail"
# Prefixes of the variables with a package hub and with tokens of private packages.
DEPS_VARIABLES = ("DBT_PACKAGE_HUB_URL", "DBT_ENV_SECRET_")
PACKAGE_LISTS = ("packages.yml", "dependencies.yml")
# A file beside the installed packages with the text of their package lists.
PACKAGES_MARKER = ".installed"
# Between those of the project and those of its local packages.
_OF_PACKAGES = "\n# packages of local packages\n"
# env_var("NAME") without a default.
_ENV_VAR = re.compile(r"env_var\(\s*['\"](\w+)['\"]\s*\)")
_DEPS_HINT = (
    "\nA release contains its packages, so the build must reach the addresses in packages.yml. "
    "A package inside the project, declared with `local: <folder>`, needs no network"
)


def project_name(project: Path) -> str:
    """Return the `name:` of a project's dbt_project.yml.

    Raises:
        BuildError: the name is missing, or dbt does not allow it.
    """
    name = project_settings(project).get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
        path = project / "dbt_project.yml"
        raise BuildError(f"{path}: `name` must be letters, digits and underscores, not {name!r}")
    return name


def project_settings(project: Path) -> dict[str, Any]:
    """Return the content of a project's dbt_project.yml.

    Raises:
        BuildError: it is not valid YAML.
        SetupError: it is missing.
    """
    path = project / "dbt_project.yml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SetupError(f"{project} is not a dbt project: it has no dbt_project.yml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} is not valid YAML: {error}") from error
    return content if isinstance(content, dict) else {}


def packages_folder(project: Path, settings: Mapping[str, Any]) -> Path:
    """Return the folder that dbt installs a project's packages into, by the settings in its dbt_project.yml."""
    return project / (settings.get("packages-install-path") or "dbt_packages")


def output_folders(project: Path, settings: Mapping[str, Any]) -> set[Path]:
    """Return the folders that dbt writes its artifacts and its log into, by the settings in a dbt_project.yml."""
    return {project / (settings.get("target-path") or "target"), project / (settings.get("log-path") or "logs")}


def build_manifest(
    project: Path, profiles: Path, selections: Mapping[str, Sequence[str]], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Listing]]:
    """Parse a dbt project without a warehouse, and let dbt list the nodes of selections.

    Args:
        project: the folder with dbt_project.yml, with its packages installed. Nothing is written to it.
        profiles: the profiles.yml to parse with, with a target `prod`.
        selections: arguments of `dbt list` by a name.
        environment: variables for the project's env_var().

    Returns:
        A manifest without times, run ids and paths of this machine, and the nodes of each selection. The same source
        gives the same manifest.

    Raises:
        BuildError: dbt failed; the message is dbt's, with file and line.
        SetupError: dbt is not installed, or profiles.yml is missing.
    """
    if not profiles.is_file():
        raise SetupError(
            f"{profiles} is missing; dbt needs it to parse, with a target `prod` that works without secrets"
        )
    with tempfile.TemporaryDirectory(prefix="dbt-parse-") as scratch:
        # dbt writes files beside the profile that it reads.
        shutil.copy(profiles, scratch)
        run, listings = parse_and_list(
            selections,
            project=project,
            scratch=Path(scratch),
            environment=parse_environment(environment),
            profiles=Path(scratch),
            timeout=_PARSE_TIMEOUT_SECONDS,
        )
        hint = _env_hint(project, environment) if "Env var required but not provided" in (run.stdout or "") else ""
        _check("parse", run, project, hint)
        manifest = json.loads((Path(scratch) / "target" / "manifest.json").read_bytes())
    return _timeless(manifest), listings


def parse_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return all variables that dbt sees when it parses a project: this process's, and `environment`."""
    return _environment() | dict(environment)


def _env_hint(project: Path, environment: Mapping[str, str]) -> str:
    """Return where variables without a value are used, because dbt names only the first of them."""
    uses = sorted(
        f"  {name}: {path.relative_to(project)}"
        for name, paths in required_variables(project).items()
        for path in paths
        if name not in environment
    )
    advice = (
        "\nSet these variables in `env:` of the pipeline in pipelines.yml (secrets: in `secret_env:`), or give "
        "env_var() a default:"
    )
    return "\n".join([advice, *uses])


def required_variables(project: Path) -> dict[str, list[Path]]:
    """Return the variables that a project reads by env_var() without a default, and the files that read them."""
    files: dict[str, list[Path]] = {}
    for path in project.rglob("*"):
        # Packages of the hub have samples such as ci/sample.profiles.yml, which dbt does not read.
        sample = path.name.endswith("profiles.yml") and path.parent != project
        if path.suffix in {".sql", ".yml", ".yaml"} and not sample and path.is_file():
            for name in set(_ENV_VAR.findall(path.read_text(encoding="utf-8", errors="replace"))):
                files.setdefault(name, []).append(path)
    return files


def schemas(manifest: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return the schemas of a project's sources, and the schemas that dbt builds in."""
    nodes = manifest["nodes"].values()
    built = {
        node["schema"]
        for node in nodes
        if node["config"].get("store_failures")
        or (node["resource_type"] in {"model", "seed", "snapshot"} and node["config"]["materialized"] != "ephemeral")
    }
    return {source["schema"] for source in manifest["sources"].values()}, built


def to_json(content: dict[str, Any]) -> bytes:
    """Return the content as JSON. The same content gives the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def install_packages(project: Path) -> None:
    """Install the packages that a dbt project and its local packages list into its dbt_packages/, unless it has them.

    Git ignores the files that this writes.

    Raises:
        BuildError: a package cannot be installed; the text is dbt's own. Or git tracks a package-lock.yml that is out
            of date.
        SetupError: dbt is not installed.
    """
    listings = [path for name in PACKAGE_LISTS if _packages(path := project / name)]
    if not listings:
        return
    marker = packages_folder(project, project_settings(project)) / PACKAGES_MARKER
    with listings[0].open() as lock:
        # Two commands can need the packages at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        own, of_packages = _lists([project]), _lists(local_packages(project))
        package_lists = f"{own}{_OF_PACKAGES}{of_packages}"
        if AUDIT_TRAIL in package_lists:
            _link_audit_trail(project / AUDIT_TRAIL)
        installed = marker.read_text(encoding="utf-8") if marker.is_file() else None
        if installed != package_lists:
            if installed and installed.partition(_OF_PACKAGES)[0] == own:
                # dbt compares only the project's own list with its lock file, so it would install what it did before.
                _delete_lock(project)
            with tempfile.TemporaryDirectory(prefix="dbt-deps-") as scratch:
                _dbt_deps(project, Path(scratch))
            marker.write_text(package_lists, encoding="utf-8")


def local_packages(project: Path) -> list[Path]:
    """Return the folders that a project lists as packages with `local:`, and those that these packages list.

    Raises:
        BuildError: a list of packages is not valid YAML.
    """
    folders: list[Path] = []
    _add_local_packages(project, project, folders)
    return folders


def _add_local_packages(project: Path, folder: Path, folders: list[Path]) -> None:
    for entry in (entry for name in PACKAGE_LISTS for entry in _packages(folder / name)):
        if isinstance(entry, dict) and isinstance(entry.get("local"), str):
            # dbt reads the paths in lists of packages from the project's folder, too (dbt/deps/local.py, dbt 1.11).
            package = (project / entry["local"]).resolve()
            if package not in folders:
                folders.append(package)
                _add_local_packages(project, package, folders)


def _lists(folders: Iterable[Path]) -> str:
    paths = (folder / name for folder in folders for name in PACKAGE_LISTS)
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())


def _delete_lock(project: Path) -> None:
    lock = project / "package-lock.yml"
    listing = ["git", "ls-files", "--error-unmatch", lock.name]
    tracked = subprocess.run(listing, cwd=project, capture_output=True, check=False)
    if lock.exists() and tracked.returncode == 0:
        raise BuildError(
            f"{lock} is older than the packages that a local package lists, and git tracks it. "
            "Update it in that folder, and commit it: dbt deps --upgrade"
        )
    lock.unlink(missing_ok=True)


def _link_audit_trail(link: Path) -> None:
    if link.resolve() != DBT_PACKAGE:
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(DBT_PACKAGE)


def _packages(path: Path) -> list[Any]:
    if not path.is_file():
        return []
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BuildError(f"{path} is not valid YAML: {error}") from error
    return content.get("packages") or [] if isinstance(content, dict) else []


def _dbt_deps(project: Path, scratch: Path) -> None:
    run = run_dbt(
        *("deps", "--target", "prod"),
        project=project,
        profiles=scratch,
        scratch=scratch,
        # dbt uses the package hub and its token only here, so they cannot get into a release.
        environment=_environment(*DEPS_VARIABLES),
        timeout=_PARSE_TIMEOUT_SECONDS,
    )
    _check("deps", run, project, _DEPS_HINT)


def _environment(*kept: str) -> dict[str, str]:
    # A developer's exported settings must not get into a release.
    return clean_environment(*kept) | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "PYTHONHASHSEED": "0"}


def _check(command: str, run: "subprocess.CompletedProcess[str]", project: Path, hint: str = "") -> None:
    if run.returncode != 0:
        raise BuildError(f"dbt {command} failed for project {project_name(project)!r}:\n{_readable(run.stdout)}{hint}")


def _readable(output: str) -> str:
    # Remove the time and lines such as "09:04:23  Running with dbt=…".
    lines = [re.sub(r"^\d\d:\d\d:\d\d\s\s?", "", line) for line in output.splitlines()]
    # For unexpected errors dbt prints its whole stack below the message.
    message = itertools.takewhile(lambda line: line != "Traceback (most recent call last):", lines)
    return "\n".join(line for line in message if not line.startswith(("Running with dbt=", "Registered adapter")))


def _timeless(manifest: dict[str, Any]) -> dict[str, Any]:
    for name in _RUN_METADATA:
        manifest["metadata"].pop(name, None)
    for resources in manifest.values():
        for entry in resources.values():
            # `disabled` maps each id to a list.
            for resource in entry if isinstance(entry, list) else [entry]:
                if isinstance(resource, dict):
                    resource.pop("created_at", None)
                    resource.pop("root_path", None)
    return manifest
