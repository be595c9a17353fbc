"""The settings in a project's dbt_project.yml cannot keep a pipeline from reporting and recording dbt's results."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from audit_report import DBT_PACKAGE
from mwaa_pipelines.node_outcomes import NodeOutcomes
from mwaa_pipelines.reporting import ENVIRONMENT, LOG
from mwaa_pipelines.results import RESULTS_KEY, push_results
from mwaa_pipelines.unwritten_rows import unwritten_results
from redshift_local.testing.preloaded_dbt import run_preloaded_dbt

# Four dbt commands.
pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "name": "shop",
    "version": "1.0",
    "profile": "shop",
    "target-path": "build",
    "log-path": "dbt_logs",
    "flags": {
        "fail_fast": True,
        "write_json": False,
        "log_format_file": "text",
        "log_level_file": "error",
        "use_colors_file": True,
    },
    "models": {"+schema": "elsewhere"},
    "on-run-end": "{{ 'select no_such_column from no_such_table' if not env_var('DBT_AUDIT_KEPT_0', '') }}",
}
FILES = {
    # With fail_fast, dbt skips the other models: it starts with the one that most models depend on.
    "models/broken.sql": "select * from no_such_source",
    "models/after_broken.sql": "select * from {{ ref('broken') }}",
    "models/orders.sql": "select {{ function('area') }}(2, 3) as area",
    "functions/area.sql": "select $1 * $2",
    "functions/functions.yml": """
        functions:
          - name: area
            arguments: [{name: width, data_type: integer}, {name: height, data_type: integer}]
            returns: {data_type: integer}
""",
}
STATUSES = {
    "model.shop.broken": "error",
    "model.shop.after_broken": "skipped",
    "model.shop.orders": "success",
    "function.shop.area": "success",
}
HOOK = "operation.shop.shop-on-run-end-0"


class Shop:
    """A dbt project with the audit trail, whose settings move or suppress the files of dbt."""

    def __init__(self, folder: Path, warehouse: Any) -> None:
        self.folder, self._warehouse = folder, warehouse
        self.output = ""
        profile = {"type": "redshift", "host": warehouse.host, "port": warehouse.port, "user": warehouse.user}
        profile |= {"password": warehouse.password, "dbname": "dev", "schema": "project_settings", "sslmode": "disable"}
        profiles = {"shop": {"target": "prod", "outputs": {"prod": {**profile, "threads": 1}}}}
        for name, content in {"dbt_project.yml": SETTINGS, "profiles.yml": profiles}.items():
            (folder / name).write_text(yaml.safe_dump(content))
        for name, content in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)
        # As `dbt deps` does.
        (folder / "dbt_packages").mkdir()
        (folder / "dbt_packages" / "audit_trail").symlink_to(DBT_PACKAGE)

    def dbt(self, *arguments: str, environment: Mapping[str, str] = {}) -> "subprocess.CompletedProcess[str]":
        """Run dbt as a task of a pipeline does, which has its own log."""
        (self.folder / LOG).unlink(missing_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
        return run_preloaded_dbt(*arguments, cwd=self.folder, env={**inherited, **ENVIRONMENT, **environment})

    def audit_rows(self) -> list[tuple[str, str]]:
        """Return the project's nodes in the audit table of the target schema, and their statuses."""
        query = "select resource_type || '.shop.' || name, status from project_settings.audit_table "
        query += "where unique_id like '%.shop.%'"
        connection = self._warehouse.connect()
        with connection.cursor() as cursor:
            cursor.execute(f"{query} and resource_type <> 'operation' order by 1, 2")
            rows = [tuple(row) for row in cursor.fetchall()]
        connection.close()
        return rows


@pytest.fixture(scope="module")
def shop(redshift: Any, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The project after a build in which a model and a hook failed."""
    shop = Shop(tmp_path_factory.mktemp("shop"), redshift)
    # The producer's command.
    nodes = ("--select", "package:shop", "audit_table", "--exclude-resource-type", "test")
    build = shop.dbt("build", *nodes, "--log-format", "json")
    assert build.returncode == 1, build.stdout
    shop.output = build.stdout
    return shop


def test_report_has_every_node_and_the_cause_of_a_failed_hook(shop: Shop) -> None:
    xcoms: dict[str, Any] = {}
    ti = SimpleNamespace(try_number=1, xcom_push=lambda key, value: xcoms.update({key: value}))
    push_results(str(shop.folder), {"ti": ti})
    results = {result["unique_id"]: result for result in xcoms[RESULTS_KEY]["results"]}
    assert {name: result["status"] for name, result in results.items()} == {
        **STATUSES,
        "model.audit_trail.audit_table": "success",
        HOOK: "error",
        "operation.audit_trail.audit_trail-on-run-start-0": "success",
        "operation.audit_trail.audit_trail-on-run-end-0": "skipped",
    }
    assert results["model.shop.broken"]["message"] == 'relation "no_such_source" does not exist'
    assert results[HOOK]["message"] == 'relation "no_such_table" does not exist'


def test_sensors_get_status_seconds_and_error_from_dbt(shop: Shop) -> None:
    xcoms: dict[str, dict[str, Any]] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: xcoms.update({key: value}))
    outcomes = NodeOutcomes({})
    outcomes.log_file = shop.folder / LOG
    for line in shop.output.splitlines():
        outcomes.read(line, ti)
    (reported,) = xcoms.values()
    lines = [
        re.sub(r"[\d.]+ s$", "", line, flags=re.MULTILINE) for outcome in reported.values() for line in outcome["lines"]
    ]
    assert sorted(lines) == [
        "function.shop.area: success, ",
        "model.audit_trail.audit_table: success, ",
        "model.shop.broken: error, \n  Database Error in model broken (models/broken.sql)\n"
        '  relation "no_such_source" does not exist\n'
        "  compiled code at target/run/shop/models/broken.sql",
        "model.shop.orders: success, ",
    ]


def test_results_reach_the_audit_table_of_the_target_schema(shop: Shop) -> None:
    run, results = unwritten_results(shop.folder)
    statuses = {result["unique_id"]: result["status"] for result in results}
    assert statuses == {**STATUSES, "model.audit_trail.audit_table": "success"}
    stored = json.dumps({"run": run, "results": results})
    audit = shop.dbt("build", "--select", "audit_table", "area", environment={"DBT_AUDIT_KEPT_0": stored})
    assert audit.returncode == 0, audit.stdout
    assert shop.audit_rows() == sorted([*STATUSES.items(), ("function.shop.area", "success")])
