"""Benchmarks of public dbt projects: their builds through the gateway and through a gateway without translation.

Only nodes that build without translation, too, are measured. They come from the dbt hub, or from the clones in the
folder that PUBLIC_PACKAGES names. Without both, nothing is measured.
"""

import importlib.util
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import psycopg

from benchmarks import Figure
from benchmarks.warehouse.builds import untranslated
from benchmarks.warehouse.stand_ins import StandIns, running_stand_ins, seconds
from mwaa_local.settings import HOST, REPOSITORY, Passwords, SetupError

_OWNER = "fivetran/"
_ROUNDS = 2
_DONE = ("success", "pass")
_SYSTEM_SCHEMAS = "nspname !~ '^pg_' and nspname not in ('information_schema', 'public')"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure the builds. This takes about fifteen minutes. PUBLIC_PROJECTS names some: `github jira`.

    Raises:
        SetupError: no node of a project was built.
    """
    projects = _script()
    names = os.environ.get("PUBLIC_PROJECTS", "").split()
    chosen = [
        item for item in projects.PROJECTS if item.package.startswith(_OWNER) and item.name in (names or item.name)
    ]
    with running_stand_ins() as bench, untranslated(bench.postgres) as port:
        ports = {"translated": bench.settings.warehouse_port, "untranslated": port}
        folder = bench.settings.state / "projects"
        folder.mkdir()
        clones = os.environ.get("PUBLIC_PACKAGES")
        packages = projects.with_local_packages(Path(clones), folder / "packages") if clones else None
        taken, nodes = dict.fromkeys(ports, 0.0), [0, 0]
        for item in chosen:
            outputs = {way: projects.output(item, HOST, ports[way]) for way in ports}
            root = projects.prepare(item, folder, packages, outputs)
            build = _Build(projects, bench, root, item)
            if problem := build.download():
                say(f"{problem}. Clone the packages, and name their folder in PUBLIC_PACKAGES")
                return []
            say(f"{item.name}: finding the nodes that build without translation")
            every, both = build.nodes_of("untranslated")
            nodes = [nodes[0] + len(both), nodes[1] + every]
            rounds: dict[str, list[float]] = {way: [] for way in ports}
            for number in range(_ROUNDS):
                for way in ports:
                    say(f"{item.name}: {len(both)} of {every} nodes, {way}, round {number + 1}")
                    rounds[way].append(build.seconds_of(way, both))
            for way in ports:
                taken[way] += statistics.median(rounds[way])
    name = f"builds of {len(chosen)} fivetran projects, {nodes[0]} of {nodes[1]} nodes"
    return [
        Figure(name, taken["translated"], "s", "gateway without translation", taken["untranslated"], 1.1),
    ]


class _Build:
    """The builds of one project."""

    def __init__(self, projects: ModuleType, bench: StandIns, root: Path, project: object) -> None:
        self._projects, self._bench, self._root = projects, bench, root
        commands = projects.commands(project, root)
        self._downloads = [item for item in commands if item[1] == ("deps",)]
        self._builds = commands[len(self._downloads) :]

    def download(self) -> str:
        """Download the packages; returns the error."""
        for folder, command in self._downloads:
            _, problem = self._dbt(folder, command)
            if problem:
                return problem
        return ""

    def nodes_of(self, way: str) -> tuple[int, list[str]]:
        """Build all nodes; returns how many there are, and the names of those that succeed."""
        self._empty()
        results = self._results(way)
        return len(results), [_name(node) for node in results if node["status"] in _DONE]

    def seconds_of(self, way: str, names: list[str]) -> float:
        """Build nodes on empty schemas, and return the time.

        Raises:
            SetupError: a node failed, or was skipped.
        """
        self._empty()
        results: list[dict] = []
        taken = seconds(lambda: results.extend(self._results(way, "--select", *names)))
        if missing := set(names) - {_name(node) for node in results if node["status"] in _DONE}:
            raise SetupError(f"{self._root.name} was not built {way}: {', '.join(sorted(missing))} ({self._root})")
        return taken

    def _results(self, way: str, *selection: str) -> list[dict]:
        """Load the seeds, then build the rest, as sources are not ordered after seeds; returns the nodes' results."""
        nodes = []
        for folder, command in self._builds:
            built, problem = self._dbt(folder, (*command, "--target", way, *selection))
            if not built:
                raise SetupError(f"no node of {self._root.name} was built {way}: {problem}")
            nodes += built
        return nodes

    def _dbt(self, folder: Path, command: tuple[str, ...]) -> tuple[list[dict], str]:
        return self._projects.dbt(self._root, folder, command, Passwords.load(self._bench.settings.state).awsuser)

    def _empty(self) -> None:
        with psycopg.connect(self._bench.postgres.conninfo("dev"), autocommit=True) as connection:
            schemas = connection.execute(f"select quote_ident(nspname) from pg_namespace where {_SYSTEM_SCHEMAS}")  # noqa: S608
            for (schema,) in schemas.fetchall():
                connection.execute(f"drop schema {schema} cascade")


def _name(node: dict) -> str:
    return node["unique_id"].split(".")[2]


def _script() -> ModuleType:
    path = REPOSITORY / "packages" / "redshift-local" / "tests" / "public_dbt_projects.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
