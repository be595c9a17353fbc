"""Builds public dbt projects, of pinned versions, on a new local warehouse, and prints a table.

    python packages/redshift-local/tests/public_dbt_projects.py <folder>
    python packages/redshift-local/tests/public_dbt_projects.py <folder> shopify jira
    python packages/redshift-local/tests/public_dbt_projects.py <folder> --packages <clones>

It needs dbt-redshift in the environment that runs it. `dbt deps` downloads the projects from the dbt hub. Without the
hub, give a folder with a clone of each package, named as in the hub: `shopify`, `dbt_utils` and so on. The folder gets
a log of each dbt command.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

from redshift_local.pytest_plugin import Warehouse, start_warehouse, stop_warehouse
from redshift_local.settings import ADMIN, DATABASE

_OUTCOMES = {"success": "passed", "pass": "passed", "warn": "passed", "no-op": "passed", "skipped": "skipped"}
_SHOWN = 12  # problems of a project
_DEPS = ("deps",)
_SEED = ("seed", "--full-refresh")
_BUILD = ("build", "--exclude", "resource_type:seed")
_BY_SCRIPT = ("--exclude", "tag:requires_script")
# As in the package's own .scripts/integration_test.sh: the first days, and three increments.
_EVENTS = "{snowplow__allow_refresh: true, snowplow__backfill_limit_days: 243, snowplow__enable_cwv: false}"
_MORE_EVENTS = ("run", "--vars", "{snowplow__enable_cwv: false}")
_VITALS = "snowplow_unified_web_vital"
_NO_VITALS = (f"{_VITALS}_measurements", f"{_VITALS}_measurements_actual", f"{_VITALS}_events_this_run")
_NO_SCREENS = ("snowplow_unified_views_mobile_screen_engagement_actual", "test_name:not_null")


@dataclass(frozen=True)
class Project:
    """A package of the hub, with the integration tests that build it.

    Attributes:
        package: its name in the hub.
        version: its version there.
        schema: the schema in which the integration tests expect their seeds.
        folder: the project of the integration tests; "" builds the package's own models.
        commands: dbt's commands, in order.
    """

    package: str
    version: str
    schema: str = "public_project"
    folder: str = "integration_tests"
    commands: tuple[tuple[str, ...], ...] = (_SEED, _BUILD)

    @property
    def name(self) -> str:
        """The name of the package's folder."""
        return self.package.split("/")[1]


PROJECTS = (
    Project("fivetran/shopify", "1.8.0", "shopify_integration_tests"),
    Project("fivetran/hubspot", "1.7.2", "hubspot_integration_tests"),
    Project("fivetran/stripe", "1.7.0", "stripe_integrations_tests"),
    Project("fivetran/github", "1.1.0", "github_integration_tests_1"),
    Project("fivetran/fivetran_log", "2.5.2", "fivetran_platform_integration_tests"),
    Project("fivetran/jira", "1.9.0", "jira_integration_tests"),
    Project("snowplow/snowplow_utils", "1.0.0", commands=(_SEED, ("run", *_BY_SCRIPT), ("test", *_BY_SCRIPT))),
    Project(
        "snowplow/snowplow_unified",
        "1.0.0",
        commands=(
            _SEED,
            ("run", "--full-refresh", "--vars", _EVENTS),
            *(_MORE_EVENTS,) * 3,
            ("test", "--exclude", *_NO_VITALS, *_NO_SCREENS),
        ),
    ),
    Project("elementary-data/elementary", "0.25.1", folder="", commands=(_BUILD,)),
    Project("dbt-labs/redshift", "0.9.0", folder="", commands=(_BUILD,)),
)


def main() -> int:
    """Build the projects, print a line for each and one for each failure, and return how many projects failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("projects", nargs="*", help="names of packages; without, all")
    parser.add_argument("--packages", type=Path, help="a folder with clones of the packages, to use instead of the hub")
    arguments = parser.parse_intermixed_args()
    names = [project.name for project in PROJECTS]
    if unknown := set(arguments.projects) - set(names):
        parser.error(f"no project is called {', '.join(sorted(unknown))}; the projects are {', '.join(names)}")
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    clones = with_local_packages(arguments.packages, folder / "packages") if arguments.packages else None
    print(f"{'project':24}{'passed':>8}{'failed':>8}{'refused':>8}{'skipped':>8}", flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as state:
        warehouse = start_warehouse(Path(state))
        try:
            return sum(
                _build(project, folder, clones, warehouse)
                for project in PROJECTS
                if project.name in (arguments.projects or names)
            )
        finally:
            stop_warehouse(warehouse)


def with_local_packages(clones: Path, target: Path) -> Path:
    """Copy the clones, and let each require the other clones instead of packages of the hub."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(clones, target, ignore=shutil.ignore_patterns(".git"))
    for file in (*target.glob("*/packages.yml"), *target.glob("*/integration_tests/packages.yml")):
        entries = (yaml.safe_load(file.read_text()) or {}).get("packages", [])
        names = [Path(entry.get("package") or entry.get("git") or "").name.removesuffix(".git") for entry in entries]
        local = [{"local": str(target / name)} if name else entry for name, entry in zip(names, entries, strict=True)]
        file.write_text(json.dumps({"packages": local}))  # JSON is valid YAML
    return target


def _build(project: Project, folder: Path, clones: Path | None, warehouse: Warehouse) -> bool:
    """Build a project; returns whether it failed."""
    root = prepare(project, folder, clones, {"redshift": output(project, warehouse.host, warehouse.port)})
    results: Counter[str] = Counter()
    problems = []
    for directory, command in commands(project, root):
        problems += _counted(*dbt(root, directory, command, warehouse.password), results)
        if problems and command == _DEPS:
            break
    counts = "".join(f"{results[status]:>8}" for status in ("passed", "failed", "refused", "skipped"))
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"and {len(problems) - _SHOWN} more; {root} has the logs"]
    print(f"{project.name:24}{counts}", *problems, sep="\n    ", flush=True)
    return results["failed"] > 0


def output(project: Project, host: str, port: int) -> dict:
    """Return an output of the profile of a project, for the admin of a local warehouse."""
    address = {"host": host, "port": port, "dbname": DATABASE, "user": ADMIN, "sslmode": "disable"}
    password = "{{ env_var('PUBLIC_PASSWORD') }}"
    return {"type": "redshift", "password": password, "schema": project.schema, "threads": 4, **address}


def prepare(project: Project, folder: Path, clones: Path | None, outputs: dict[str, dict]) -> Path:
    """Write a dbt project that requires the package; returns its folder. The first output is the target."""
    root = folder / project.name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    source = (
        {"local": str(clones / project.name)} if clones else {"package": project.package, "version": project.version}
    )
    settings = {"name": "public_project", "version": "1.0", "profile": "local"}
    profile = {"target": next(iter(outputs)), "outputs": outputs}
    for name, content in (
        ("profiles.yml", {"local": profile}),
        ("dbt_project.yml", settings),
        ("packages.yml", {"packages": [source]}),
    ):
        (root / name).write_text(json.dumps(content))  # JSON is valid YAML
    return root


def commands(project: Project, root: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Return dbt's commands that build a prepared project, each with the folder to run it in."""
    directory = root / "dbt_packages" / project.name / project.folder if project.folder else root
    before = [(root, _DEPS), (directory, _DEPS)] if project.folder else [(root, _DEPS)]
    return [*before, *((directory, command) for command in project.commands)]


def dbt(root: Path, directory: Path, command: tuple[str, ...], password: str) -> tuple[list[dict], str]:
    """Run a command of dbt; returns the results of its nodes, and the last line of its log if it has none."""
    number = len(list(root.glob("*.log"))) + 1
    log, target = root / f"{number}-{command[0]}.log", root / f"target-{number}"
    environment = {
        **os.environ,
        "DBT_PROFILES_DIR": str(root),
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(root / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "PUBLIC_PASSWORD": password,
    }
    profile = () if command == _DEPS else ("--profile", "local")
    arguments = [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--no-use-colors", *command, *profile]
    with log.open("w") as text:
        code = subprocess.run(arguments, cwd=directory, env=environment, stdout=text, stderr=text).returncode
    file = target / "run_results.json"
    if not file.exists():
        last_line = (log.read_text().splitlines() or [f"exit code {code}, no output"])[-1]
        return [], f"dbt {command[0]}: {last_line} ({log})" if code else ""
    return json.loads(file.read_text())["results"], ""


def _counted(nodes: list[dict], problem: str, results: Counter) -> list[str]:
    """Count the results of a command; returns a line for each node that failed or was refused."""
    problems = [problem] if problem else []
    results["failed"] += len(problems)
    for node in nodes:
        message = " ".join((node["message"] or "").split())
        refused = "not supported by the local warehouse" in message
        outcome = "refused" if refused else _OUTCOMES.get(node["status"], "failed")
        results[outcome] += 1
        if outcome in ("refused", "failed"):
            problems.append(f"{node['unique_id']}: {message[:300]}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
