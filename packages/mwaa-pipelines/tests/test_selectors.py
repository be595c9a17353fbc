"""A DAG's tasks run the nodes that `dbt list` names, for selectors of every kind."""

import functools
import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dbt.cli.main import dbtRunner

from mwaa_local.processes import base_environment
from mwaa_local.settings import REPOSITORY
from mwaa_release.build import build
from mwaa_release.errors import BuildError

# dbt and Airflow parse the project, and dbt lists each selection.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AIRFLOW_TESTS = REPOSITORY / "packages" / "mwaa-pipelines" / "tests" / "airflow"
FILES = {
    "dbt_project.yml": """
        {name: nest, version: "1.0", profile: nest, packages-install-path: packages,
         models: {nest: {marts: {+materialized: table, +tags: [mart, nightly]}}},
         snapshots: {nest: {+tags: [history]}}}""",
    "profiles.yml": """
        {nest: {target: prod, outputs: {prod: {type: redshift, host: localhost, port: 1, user: u, password: p,
         dbname: dev, schema: s}}}}""",
    "packages.yml": "{packages: [{local: lib}]}",
    "lib/dbt_project.yml": "{name: lib, version: '1.0'}",
    "lib/models/customers.sql": "select 1 as id",
    "lib/models/shared.sql": "select 1 as id",
    "lib/models/p.yml": "{models: [{name: shared, columns: [{name: id, data_tests: [unique]}]}]}",
    "models/orders.sql": "select * from {{ ref('stg_orders') }}",
    # A folder with the name of a model, which `fqn:nest.orders` also names.
    "models/orders/order_lines.sql": "select * from {{ ref('orders') }}",
    "models/orders/orders_wide.sql": "select * from {{ ref('order_lines') }}",
    "models/staging/stg_orders.sql": "select * from {{ source('raw', 'orders') }}",
    "models/staging/stg_items.sql": "select * from {{ ref('items') }}",
    "models/marts/fct.sql": "select 1 as id from {{ ref('orders') }} join {{ ref('stg_items') }} using (id)",
    "models/marts/dim.sql": "select * from {{ ref('shared') }}",
    "models/marts/dim_v2.sql": "select * from {{ ref('shared') }}",
    "models/marts/late night/more properties.yml": """
        models: [{name: night, columns: [{name: id, data_tests: [unique]}]}]""",
    "models/marts/late night/night.sql": """
        {{ config(tags=['night_only'], materialized='view') }} select * from {{ ref('fct') }}""",
    "models/properties.yml": """
        groups: [{name: finance, owner: {name: f}}]
        sources: [{name: raw, tables: [{name: orders, columns: [{name: id, data_tests: [not_null]}]}]}]
        models:
          - name: orders
            config: {meta: {frequency: daily}}
            columns: [{name: id, data_tests: [not_null, unique]}]
          - {name: fct, config: {group: finance}, access: public, columns: [{name: id, data_tests: [unique,
              {relationships: {arguments: {to: ref('orders'), field: id}}}]}]}
          - {name: dim, versions: [{v: 1, defined_in: dim}, {v: 2}], latest_version: 2}
        exposures: [{name: board, type: dashboard, owner: {name: o}, depends_on: [ref('fct')]}]""",
    "seeds/items.csv": "id\n1\n",
    "snapshots/history.yml": """
        snapshots: [{name: orders_history, relation: ref('orders'),
          config: {unique_key: id, strategy: check, check_cols: all}}]""",
    "tests/orders_are_complete.sql": "select * from {{ ref('orders') }} where id is null",
    "selectors.yml": """
        selectors:
          - name: nightly
            definition: {union: [{method: tag, value: nightly, parents: true},
              {exclude: [{method: tag, value: night_only}]}]}""",
}
# The settings of an entry.
SELECTORS = [
    *({"select": [selector]} for selector in ("orders", "fct", "dim", "dim.v1", "nest", "items", "shared")),
    *({"select": [selector]} for selector in ("staging+", "+fct", "1+fct", "stg_orders+1", "@stg_items", "+orders+")),
    *({"select": [selector]} for selector in ("stg_*", "marts.*", "nest.marts", "staging", "nest.staging.stg_?rders")),
    *({"select": [selector]} for selector in ("tag:mart", "tag:night*", "fqn:nest.orders.*", "fqn:nest.orders")),
    *({"select": [selector]} for selector in ("path:models/staging", "models/orders/order_lines.sql", "file:fct.sql")),
    *({"select": [selector]} for selector in ("config.materialized:table", "config.meta.frequency:daily")),
    *({"select": [selector]} for selector in ("config.group:finance", "group:finance", "access:public")),
    *(
        {"select": [selector]}
        for selector in ("package:lib", "package:this", "resource_type:seed", "test_type:singular")
    ),
    *({"select": [selector]} for selector in ("source:raw+", "+exposure:board", "version:latest", "test_name:unique")),
    *({"select": [selector]} for selector in ("tag:mart,config.materialized:table", "orders_history")),
    {"select": ["staging", "tag:history"], "exclude": ["stg_items"]},
    {"exclude": ["staging+"]},
    {"exclude": ["test_type:generic", "resource_type:snapshot"]},
    {"selector": "nightly"},
    {},
]
REFUSED = {
    "state:modified": "Got a state selector method, but no comparison manifest",
    "@orders+": '"@" prefix and "+" suffix are incompatible',
    "config.group:finanse": "selects nothing to build in the dbt project 'nest'",
    "tag:mrat": "selects nothing to build in the dbt project 'nest'. Correct or remove it. Did you mean 'mart'?",
    "stg_order": "Did you mean 'stg_orders'?",
    "source:raw.items": "selects nothing to build",
    "exposure:board": "selects nothing to build",
}


def _entry(name: str, **settings: Any) -> dict[str, Any]:
    login = {"redshift_connection_id": f"of_{name}", "target_database": "dev", "target_schema": "s"}
    return {"dag_name": name, "project_name": "nest", **login, **settings}


def _repository(folder: Path, *entries: dict[str, Any]) -> Path:
    for name, text in FILES.items():
        path = folder / "nest" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    shutil.copytree(REPOSITORY / "dags", folder / "dags", dirs_exist_ok=True)
    (folder / "dags" / "pipelines.yml").write_text(yaml.safe_dump({"pipelines": entries}))
    return folder


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with each selector in two pipelines, one for each execution mode."""
    folder = tmp_path_factory.mktemp("selectors")
    entries = [
        _entry(f"{mode}_{number}", execution_mode=mode, **settings)
        for number, settings in enumerate(SELECTORS)
        for mode in ("watcher", "local")
    ]
    artifact = build(folder / "artifact", repository=_repository(folder, *entries))
    (release,) = artifact.releases
    (folder / "artifact" / "dags" / "dbt" / "nest" / "CURRENT").write_text(release.release_id)
    return folder


@pytest.fixture(scope="module")
def tasks(artifact: Path, airflow_python: Path) -> dict[str, list[dict[str, Any]]]:
    """The tasks of each DAG, as Airflow parses them."""
    dags = artifact / "artifact" / "dags"
    environment = {
        **base_environment(),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "DBT_PROJECT_PATH": str(dags / "dbt"),
        "AIRFLOW_HOME": str(artifact / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    command = [airflow_python, AIRFLOW_TESTS / "print_selectors.py"]
    done = subprocess.run(command, env=environment, cwd=artifact, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def dbt_list(artifact: Path) -> Callable[..., set[str]]:
    """`dbt list`, on the project and not on the release."""
    places = [f"--project-dir={artifact / 'nest'}", f"--profiles-dir={artifact / 'nest'}", "--target=prod"]
    places += [
        "--no-send-anonymous-usage-stats",
        f"--target-path={artifact / 'target'}",
        f"--log-path={artifact / 'logs'}",
    ]
    manifest = dbtRunner().invoke(["--quiet", "parse", *places]).result

    @functools.cache
    def run(*arguments: str) -> set[str]:
        listed = dbtRunner(manifest=manifest).invoke(
            ["--quiet", "list", "--output=json", "--output-keys=unique_id", *arguments, *places]
        )
        assert listed.success, listed.exception
        nodes = {json.loads(line)["unique_id"] for line in listed.result}
        return {node for node in nodes if node.split(".")[0] in ("model", "seed", "snapshot", "test")}

    return run


def _expected(dbt_list: Callable[..., set[str]], settings: dict[str, Any]) -> set[str]:
    if "selector" in settings:
        return dbt_list("--selector", settings["selector"])
    words = [word for option, values in settings.items() for word in (f"--{option}", *values)]
    return dbt_list(*words)


_KINDS = {"run": ("model",), "seed": ("seed",), "snapshot": ("snapshot",), "test": ("test",)}


def _run_by(dbt_list: Callable[..., set[str]], task: dict[str, Any]) -> list[str]:
    """Return the nodes that a task's dbt process runs."""
    (command,) = task["base_cmd"]
    return [
        node
        for selector in task["select"].split()
        for node in sorted(dbt_list("--select", selector))
        if node.split(".")[0] in _KINDS[command]
    ]


def test_there_are_forty_selectors() -> None:
    assert len(SELECTORS) + len(REFUSED) >= 40


@pytest.mark.parametrize("number", range(len(SELECTORS)), ids=[str(settings) for settings in SELECTORS])
def test_tasks_run_what_dbt_selects(
    tasks: dict[str, list[dict[str, Any]]], dbt_list: Callable[..., set[str]], number: int
) -> None:
    expected = _expected(dbt_list, SELECTORS[number])
    assert expected
    local = [task for task in tasks[f"local_{number}"] if task["base_cmd"]]
    # No node runs twice.
    assert sorted(node for task in local for node in _run_by(dbt_list, task)) == sorted(expected)
    watched = {task["task_id"]: task for task in tasks[f"watcher_{number}"] if task["base_cmd"]}
    producer = watched.pop("transform_data.dbt_producer_watcher")
    settings = {"select": [], "exclude": [], "selector": "", **SELECTORS[number]}
    audit = [] if settings["selector"] else ["tag:audit", "tag:audit_view"]
    assert (producer["select"] or "").split() == settings["select"]
    assert (producer["exclude"] or "").split() == [*audit, *settings["exclude"]]
    assert (producer["selector"] or "") == settings["selector"]
    sensors = [node for task in watched.values() for node in _run_by(dbt_list, task) if task["base_cmd"] != ["test"]]
    assert sorted(sensors) == sorted(node for node in expected if not node.startswith("test."))


def test_order_is_kept_across_nodes_that_are_not_selected(tasks: dict[str, list[dict[str, Any]]]) -> None:
    number = SELECTORS.index({"select": ["nest.marts"]})
    night = next(task for task in tasks[f"local_{number}"] if "night" in task["task_id"])
    assert any("fct" in task_id for task_id in night["upstream"])


def test_selectors_that_name_nothing_are_refused_with_their_entry(tmp_path: Path) -> None:
    entries = [_entry(f"p{number}", select=["orders", selector]) for number, selector in enumerate(REFUSED)]
    with pytest.raises(BuildError) as raised:
        build(tmp_path / "artifact", repository=_repository(tmp_path, *entries))
    lines = str(raised.value).splitlines()
    assert len(lines) == len(REFUSED)
    for number, (selector, reason) in enumerate(REFUSED.items()):
        (line,) = [line for line in lines if re.search(rf"pipelines\.yml: pipeline p{number}: select\.1: ", line)]
        assert repr(selector) in line
        assert reason in line
    assert not (tmp_path / "artifact").exists()
