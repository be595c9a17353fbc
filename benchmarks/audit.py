"""Benchmarks of the audit trail: the time that it adds to a dbt run, and the duration of its hook.

The alternatives are the same run with the audit disabled, and the obvious way to write the rows: one INSERT of
VALUES. The packages dbt_artifacts and elementary are not compared, because only dbt's hub has them.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from audit_report import DBT_PACKAGE
from benchmarks import Figure, interleaved
from benchmarks.warehouse.stand_ins import StandIns, running_stand_ins, seconds
from mwaa_local.processes import base_environment
from mwaa_local.settings import HOST, REPOSITORY, Passwords, SetupError
from mwaa_release.manifest import install_packages

_NODES = 500
_PAIRS = 5
_RESULTS = 5_000
_SOME = 100
_VALUES = r"""
{% macro log_values(table, results) %}
    {%- set rows = [] -%}
    {%- set run = audit_trail.audit_run() -%}
    {%- for text in audit_trail.parse_dbt_results(results, run, {}) -%}
        {%- set row = dict(fromjson(text), **run) -%}
        {%- set cells = [] -%}
        {%- for column in audit_trail.audit_columns() -%}
            {%- set value = row[column] -%}
            {%- set text = (value | string).replace('\\', '\\\\').replace("'", "''") -%}
            {%- do cells.append('null' if value is none else "'" ~ text ~ "'") -%}
        {%- endfor -%}
        {%- do rows.append('(' ~ cells | join(', ') ~ ')') -%}
    {%- endfor -%}
    {%- do run_query('insert into ' ~ table ~ ' values ' ~ rows | join(', ')) -%}
{% endmacro %}

{% macro log_many(results) %}
    {%- set table = ref('audit_table') -%}
    {%- if execute and var('times') > 1 -%}
        {%- set all = results * var('times') -%}
        {%- set run = audit_trail.audit_run() -%}
        {%- do log_values(table, all) if var('values') else audit_trail.insert_audit_rows(table, all, run) -%}
    {%- endif -%}
{% endmacro %}
"""


def run(say: Callable[[str], None]) -> list[Figure]:
    """Measure the audit trail. This takes about ten minutes.

    Raises:
        SetupError: a stand-in did not start, or dbt failed.
    """
    say("starting a warehouse")
    with running_stand_ins() as bench:
        project = Project(bench, _NODES)
        project.dbt("run", "--select", "audit_table")
        return [*_runs(project, say), *_hooks(project, say)]


class Project:
    """A dbt project with the audit trail and models that do nothing."""

    schema = "bench_audit"

    def __init__(self, bench: StandIns, nodes: int) -> None:
        self.folder = bench.settings.state / "project"
        self._bench = bench
        shipped = REPOSITORY / "dbt_project"
        (self.folder / "models" / "nodes").mkdir(parents=True)
        (self.folder / "macros").mkdir()
        shutil.copy(shipped / "profiles.yml", self.folder)
        settings = {"name": "nodes", "version": "1.0.0", "profile": "flights", "on-run-end": "{{ log_many(results) }}"}
        settings["vars"] = {"times": 1, "values": False}
        packages = {"packages": [{"local": str(DBT_PACKAGE)}]}
        (self.folder / "packages.yml").write_text(yaml.safe_dump(packages))
        (self.folder / "dbt_project.yml").write_text(yaml.safe_dump(settings))
        (self.folder / "macros" / "values.sql").write_text(_VALUES)
        for number in range(nodes):
            (self.folder / "models" / "nodes" / f"node_{number}.sql").write_text(f"select {number} as number\n")
        install_packages(self.folder)

    def dbt(self, *arguments: str, **variables: object) -> Path:
        """Run dbt with these vars and return the target folder. Each set of vars has its own folder, parsed once."""
        target = self.folder / ("target_" + "_".join(f"{name}_{value}" for name, value in variables.items()))
        passwords = Passwords.load(self._bench.settings.state)
        environment = {
            **base_environment(),
            "PATH": os.environ["PATH"],
            "REDSHIFT_HOST": HOST,
            "REDSHIFT_PORT": str(self._bench.settings.warehouse_port),
            "REDSHIFT_USER": "awsuser",
            "REDSHIFT_PASSWORD": passwords.awsuser,
            "REDSHIFT_SCHEMA": self.schema,
            "DBT_TARGET": "local",
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
        }
        command = [str(Path(sys.executable).with_name("dbt")), "--quiet", *arguments, "--vars", json.dumps(variables)]
        (target / "dbt.log").unlink(missing_ok=True)
        completed = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=900
        )
        if completed.returncode:
            raise SetupError(f"dbt {arguments[0]} failed:\n{completed.stdout[-2000:]}")
        return target


def _runs(project: Project, say: Callable[[str], None]) -> list[Figure]:
    """Compare time and statements of a run with and without the audit."""

    def one(enabled: bool) -> float:
        say(f"dbt run of {_NODES} views, audit {'on' if enabled else 'off'}")
        return seconds(lambda: project.dbt("run", "--select", "path:models/nodes", audit_enabled=enabled))

    # dbt uses other statements to replace existing views than to create new ones.
    one(True), one(False)
    on, off = interleaved(_PAIRS, lambda: one(True), lambda: one(False))
    sent = [
        (project.dbt("run", "--select", "path:models/nodes", audit_enabled=enabled) / "dbt.log")
        .read_text()
        .count("Using redshift connection")
        for enabled in (True, False)
    ]
    return [
        Figure(f"dbt run of {_NODES} views (must: 1.03)", on, "s", "audit_enabled: false", off, 1.01),
        Figure("statements that the audit adds", sent[0] - sent[1], "", goal=3),
    ]


def _hooks(project: Project, say: Callable[[str], None]) -> list[Figure]:
    """Measure the on-run-end hook for few and for many results, in seconds as dbt reports them."""

    def hook(nodes: int, **variables: object) -> float:
        say(f"the hook, {nodes * variables.get('times', 1):,} results")
        select = [f"node_{number}" for number in range(nodes)]
        target = project.dbt("run", "--select", *select, **variables)
        results = json.loads((target / "run_results.json").read_text())["results"]
        package = "nodes" if "times" in variables else "audit_trail"
        hook = f"operation.{package}.{package}-on-run-end-0"
        return next(result["execution_time"] for result in results if result["unique_id"] == hook)

    figures = [
        Figure(f"hook, {nodes} result{'s' if nodes > 1 else ''}", statistics.median(hook(nodes) for _ in range(3)), "s")
        for nodes in (1, _SOME)
    ]
    times = _RESULTS // _SOME
    ours, values = interleaved(3, lambda: hook(_SOME, times=times), lambda: hook(_SOME, times=times, values=True))
    return [
        *figures,
        Figure(f"hook, {_RESULTS:,} results (must: 0.7)", ours, "s", goal=0.4),
        Figure(f"hook, {_RESULTS:,} results, beside", ours, "s", "one INSERT of VALUES", values, 1),
    ]
