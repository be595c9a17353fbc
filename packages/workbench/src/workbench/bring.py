"""`make bring`: add a copy of a dbt project to this repository, with everything that a pipeline needs."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mwaa_local.settings import SetupError
from mwaa_local.signals import uninterrupted
from mwaa_pipelines.config_file import PipelinesFile, read_pipelines_everywhere
from mwaa_pipelines.settings import PipelineError
from mwaa_release.build import PIPELINES_FILE, copy_project, find_projects
from mwaa_release.manifest import (
    AUDIT_TRAIL,
    PACKAGE_LISTS,
    build_manifest,
    install_packages,
    local_packages,
    packages_folder,
    project_name,
    project_settings,
    required_variables,
)
from workbench.project_needs import grants_for, seeds_read_as_sources, stack_command, warnings_of
from workbench.template import check_clean, stage

HOOKS = ".pre-commit-config.yaml"
# In a project that reads seeds as sources.
SEEDS_MACRO = "macros/read_seeds_as_sources.sql"
OWNERS = ".github/CODEOWNERS"
_LINTER_FILES = (".sqlfluff", ".sqlfluffignore")


@dataclass(frozen=True)
class BroughtProject:
    """A dbt project that is part of this repository now.

    Args:
        name: of the project, and of its folder.
        dag_name: of its pipeline.
        files: the number of its files.
        stack: command that creates its secret and connection in the account.
        grants: commands and SQL for a superuser of the warehouse, in order.
        warnings: things to check before the first run.
    """

    name: str
    dag_name: str
    files: int
    stack: str
    grants: list[str]
    warnings: list[str]


def bring(repository: Path, source: Path, schema: str = "") -> BroughtProject:
    """Copy a dbt project into the repository, add its pipeline to dags/pipelines.yml, and stage the changes.

    The linters and conventions of this repository do not apply to the project.

    Args:
        repository: without uncommitted changes, so that git can undo this.
        source: folder with a dbt_project.yml, outside of the repository. Nothing in it changes.
        schema: the pipeline's target_schema; default: the name of the project.

    Raises:
        SetupError: there is no such project, or the repository has it already. Nothing was changed.
        BuildError: dbt cannot parse the project, or install its packages. Nothing was changed.
    """
    check_clean(repository)
    source = _project_folder(source)
    if source.is_relative_to(repository.resolve()):
        raise SetupError(f"{source} is in this repository already. Add a pipeline for it to {PIPELINES_FILE}")
    name = project_name(source)
    check_new(repository, name, schema or name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        copy_project(source, folder, {_installed_packages(source)})
        _copy_outer_packages(source, folder)
        _add_profile_name(folder / "dbt_project.yml", name)
        copy_linter_files(source, folder)
        hooks = _with_exclusion((repository / HOOKS).read_text(), name)
        return add_project(repository, folder, schema or name, {HOOKS: hooks})


def add_project(repository: Path, folder: Path, schema: str, texts: Mapping[str, str]) -> BroughtProject:
    """Add all that a pipeline needs to a new dbt project, move it into the repository, and stage the changes.

    Args:
        repository: for which `check_new` raised nothing.
        folder: the project, alone in a temporary folder.
        schema: the pipeline's target_schema.
        texts: the new content of further files of the repository.

    Raises:
        SetupError: pipelines.yml cannot be extended. Nothing was changed.
        BuildError: dbt cannot parse the project, or install its packages. Nothing was changed.
    """
    name = project_name(folder)
    settings = project_settings(folder)
    entry = _entry(name, schema, sorted(required_variables(folder)))
    others = _read(repository / PIPELINES_FILE).pipelines
    pipelines = _with_entry(repository / PIPELINES_FILE, entry)
    _check_pipelines(pipelines, folder.parent / "pipelines.yml")
    (folder / "profiles.yml").write_text(_profile(settings["profile"], entry))
    _add_audit_trail(folder)
    install_packages(folder)
    manifest, _ = build_manifest(folder, folder / "profiles.yml", {}, entry.get("env", {}))
    seeds = seeds_read_as_sources(manifest)
    if seeds and f"macro.{name}.source" not in manifest["macros"]:
        _read_by_ref(folder / SEEDS_MACRO, seeds)
        manifest, _ = build_manifest(folder, folder / "profiles.yml", {}, entry.get("env", {}))
    for path in (_installed_packages(folder), folder / "package-lock.yml"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    texts = {PIPELINES_FILE: pipelines, **_owners(repository, name), **texts}
    with uninterrupted():
        shutil.copytree(folder, repository / name)
        for file, text in texts.items():
            (repository / file).write_text(text)
        stage(repository)
    files = sum(path.is_file() for path in folder.rglob("*"))
    grants = grants_for(manifest, entry, others)
    return BroughtProject(name, entry["dag_name"], files, stack_command(entry), grants, warnings_of(manifest, entry))


def _read_by_ref(path: Path, seeds: Mapping[str, str]) -> None:
    """Write a macro that lets source() return ref() of seeds. dbt builds only what ref() names before what reads it."""
    entries = "".join(f"        {source!r}: {seed!r},\n" for source, seed in sorted(seeds.items()))
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"""\
{{# Added by make bring: these sources are seeds, and dbt must build them before the models that read them. #}}
{{% macro source(source_name, table_name) %}}
    {{%- set seeds = {{
{entries}    }} -%}}
    {{%- set seed = seeds[source_name ~ '.' ~ table_name] -%}}
    {{%- do return(builtins.ref(seed) if seed else builtins.source(source_name, table_name)) -%}}
{{% endmacro %}}
""")


def copy_linter_files(source: Path, folder: Path) -> None:
    """Copy the settings of sqlfluff, which a release does not contain."""
    for file in _LINTER_FILES:
        if (source / file).is_file():
            shutil.copy(source / file, folder)


def _project_folder(path: Path) -> Path:
    """Return the folder with dbt_project.yml: the given one, or the only one directly in it."""
    if path == Path():
        raise SetupError("no dbt project is given. Name its folder: make bring P=<folder>")
    path = path.expanduser().resolve()
    if not path.exists():
        raise SetupError(f"{path} does not exist. Name the folder of a dbt project: make bring P=<folder>")
    if path.name == "dbt_project.yml":
        path = path.parent
    folders = (
        [path] if (path / "dbt_project.yml").is_file() else [file.parent for file in path.glob("*/dbt_project.yml")]
    )
    if len(folders) == 1:
        return folders[0]
    hint = (
        f"it contains {', '.join(sorted(folder.name for folder in folders))}"
        if folders
        else "it has no dbt_project.yml"
    )
    raise SetupError(f"{path} is not one dbt project: {hint}. Name its folder: make bring P=<folder>")


def check_new(repository: Path, name: str, schema: str) -> None:
    """Check that a repository has neither the project nor its folder, its pipeline or its schema.

    Raises:
        SetupError: it has one of them; the text says which.
    """
    pipelines = _read(repository / PIPELINES_FILE).pipelines
    projects = {project_name(folder): folder for folder in find_projects(repository)}
    if name in projects:
        raise SetupError(f"{projects[name]} has the name {name!r} too. Change `name:` in one of the dbt_project.yml")
    if (repository / name).exists():
        raise SetupError(f"{repository / name} exists already, and the project needs this folder. Rename or delete it")
    if taken := [pipeline.dag_name for pipeline in pipelines if pipeline.project_name == name]:
        raise SetupError(
            f"pipeline {taken[0]} in {PIPELINES_FILE} is for a project {name!r} already. Remove that entry"
        )
    if taken := [pipeline.dag_name for pipeline in pipelines if pipeline.target_schema == schema]:
        raise SetupError(
            f"pipeline {taken[0]} in {PIPELINES_FILE} builds in the schema {schema!r}, which can have one owner only. "
            "Choose another schema"
        )


def _entry(name: str, schema: str, variables: Iterable[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "dag_name": f"{name}_pipeline",
        "project_name": name,
        "redshift_connection_id": f"{name}_redshift",
        "secret_name": f"{name}/dbt_user",
        "target_database": "dev",
        "target_schema": schema,
        "sns_lambda_function_name": "sns_notification",
        "schedule": None,
    }
    if variables:
        entry["env"] = dict.fromkeys(variables, "not-set")
    return entry


def _profile(profile: str, entry: Mapping[str, Any]) -> str:
    output = {"type": "redshift", "host": "none", "port": 5439, "user": "none", "password": "none"}
    output |= {"dbname": entry["target_database"], "schema": entry["target_schema"]}
    note = "# dbt needs it to parse the project. At run time the connection comes from Airflow: put no secret here.\n"
    return note + yaml.safe_dump({profile: {"target": "prod", "outputs": {"prod": output}}}, sort_keys=False)


def _add_audit_trail(folder: Path) -> None:
    """Add the audit trail to the list of packages that the project has, and keep its comments if possible."""
    line = {"local": AUDIT_TRAIL}
    lists = [folder / file for file in PACKAGE_LISTS if (folder / file).is_file()]
    path = next((path for path in lists if re.search(r"^packages:", path.read_text(), re.M)), folder / PACKAGE_LISTS[0])
    text = path.read_text() if path.is_file() else ""
    content = yaml.safe_load(text) or {}
    packages = [*(content.get("packages") or []), line]
    if line in packages[:-1]:
        return
    indent = match[1] if (match := re.search(r"^packages:.*\n(?:\s*#.*\n)*( *)- ", text, re.M)) else "  "
    extended = re.sub(r"^(packages:.*\n)", rf"\g<1>{indent}- local: {AUDIT_TRAIL}\n", text, count=1, flags=re.M)
    try:
        unchanged = sorted(map(str, yaml.safe_load(extended)["packages"])) == sorted(map(str, packages))
    except (yaml.YAMLError, TypeError, KeyError):
        unchanged = False
    path.write_text(extended if unchanged else yaml.safe_dump({**content, "packages": packages}, sort_keys=False))


def _with_entry(path: Path, entry: Mapping[str, Any]) -> str:
    """Return the text of pipelines.yml with one more entry at its end.

    Raises:
        SetupError: the list of pipelines is not at the end of the file.
    """
    text = path.read_text().rstrip("\n") + "\n"
    indent = match[1] if (match := re.search(r"^pipelines:.*?\n( *)- ", text, re.M | re.S)) else "  "
    lines = yaml.safe_dump([dict(entry)], sort_keys=False).splitlines()
    extended = text + "".join(f"{indent}{line}\n" for line in lines)
    before = yaml.safe_load(text)["pipelines"]
    try:
        after = yaml.safe_load(extended)["pipelines"]
    except (yaml.YAMLError, TypeError, KeyError):
        after = None
    if after != [*before, dict(entry)]:
        raise SetupError(f"{path} does not end with its list of pipelines. Move `pipelines:` to the end of the file")
    return extended


def _with_exclusion(hooks: str, name: str) -> str:
    """Return .pre-commit-config.yaml without checks of the project's files, which have a style of their own."""
    pattern = f"^{name}/"
    if re.search(r"^exclude: \S", hooks, re.M):
        return re.sub(r"^(exclude: \S.*)$", rf"\g<1>|{pattern}", hooks, count=1, flags=re.M)
    return re.sub(r"^repos:", f"exclude: {pattern}\nrepos:", hooks, count=1, flags=re.M)


def _installed_packages(project: Path) -> Path:
    return packages_folder(project, project_settings(project))


def _copy_outer_packages(source: Path, folder: Path) -> None:
    """Copy the packages that a project lists as `local: ../…`, such as the package that it tests, into the copy."""
    installed = (source / AUDIT_TRAIL).resolve()
    outer = [path for path in local_packages(source) if path != installed and not path.is_relative_to(source)]
    copies = {path: f"packages/{project_name(path)}" for path in outer}
    for package, copy in copies.items():
        if (folder / copy).exists():
            raise SetupError(f"{source} lists the package {package} and has a folder {copy}, too. Rename the folder")
        copy_project(package, folder / copy, {source, _installed_packages(package)})
    folders = [folder, *(folder / copy for copy in copies.values())] if copies else []
    for path in (path for parent in folders for name in PACKAGE_LISTS if (path := parent / name).is_file()):
        text = path.read_text()
        content = yaml.safe_load(text) or {}
        for entry in content.get("packages") or []:
            local = entry.get("local")
            if copy := copies.get((source / local).resolve()) if local else None:
                entry["local"] = copy
                text = re.sub(rf"(local: *)(['\"]?){re.escape(local)}\2(?=\s|$|[,}}])", rf"\g<1>{copy}", text)
        path.write_text(text if yaml.safe_load(text) == content else yaml.safe_dump(content, sort_keys=False))


def _add_profile_name(path: Path, name: str) -> None:
    """Name a profile in the dbt_project.yml of a package, which has none."""
    if not project_settings(path.parent).get("profile"):
        path.write_text(f"{path.read_text().rstrip()}\n\nprofile: {name}\n")


def _read(path: Path) -> PipelinesFile:
    try:
        return read_pipelines_everywhere(path)
    except PipelineError as error:
        raise SetupError(str(error)) from None


def _check_pipelines(text: str, path: Path) -> None:
    path.write_text(text)
    if problems := _read(path).problems:
        # The repository's file does not have these lines.
        without_lines = [re.sub(rf"^{re.escape(str(path))}(:\d+)?", PIPELINES_FILE, problem) for problem in problems]
        raise SetupError("\n".join([*without_lines, "Nothing was changed"]))


def _owners(repository: Path, name: str) -> dict[str, str]:
    """Return CODEOWNERS with a line for the project, whose team has the same name; nothing if there are no teams."""
    path = repository / OWNERS
    text = path.read_text() if path.is_file() else ""
    organization = re.search(r"^[^#\n]*\s@([\w-]+)/", text, re.M)
    return {OWNERS: f"{text.rstrip()}\n/{name}/ @{organization[1]}/{name}\n"} if organization else {}
