"""DAG file of the alternatives, which use Cosmos as its documentation shows. It is copied beside dags/pipelines.py.

`<project>_bash` is one BashOperator that runs `dbt build`, and keeps its target folder from run to run.
`<project>_watcher` uses ExecutionMode.WATCHER for the whole project. `<project>_local` is the article's design: one
dbt process per model and per test, with an audit group, a transform group and a check. All use this repository's
release, dbt, database and threads; the last two use Cosmos's defaults without `dbt deps`. alternatives.json lists the
DAGs: `[{"name": project, "schema": ..., "threads": ..., "modes": ["bash", "watcher", "local"], "profiles": folder}]`.
"""

import json
import tempfile
from pathlib import Path

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from cosmos import (
    DbtDag,
    DbtTaskGroup,
    ExecutionConfig,
    ExecutionMode,
    LoadMode,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
    settings,
)
from cosmos.profiles import RedshiftUserPasswordProfileMapping

from mwaa_pipelines.release import current_release
from mwaa_pipelines.worker import dbt_executable

# startup.sh changes these settings. Set Cosmos's defaults again.
settings.enable_cache = settings.enable_dag_versioning = settings.enable_watcher_reliable_retry = True

for project in json.loads(Path(__file__).with_suffix(".json").read_text()):
    release = current_release(project["name"])
    profile_config = ProfileConfig(
        profile_name=project["name"],
        target_name="prod",
        profile_mapping=RedshiftUserPasswordProfileMapping(
            conn_id=f"{project['name']}_plain", profile_args={name: project[name] for name in ("schema", "threads")}
        ),
    )
    project_config = ProjectConfig(
        dbt_project_path=release.path,
        manifest_path=release.manifest_path,
        project_name=project["name"],
        install_dbt_deps=False,
    )

    if "bash" in project["modes"]:
        folder = Path(tempfile.gettempdir(), "bench-bash", project["name"])
        with DAG(dag_id=f"{project['name']}_bash", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
            BashOperator(
                task_id="dbt_build",
                bash_command='cd "$PROJECT" && "$DBT" build --profiles-dir "$PROFILES"',
                env={
                    "PROJECT": str(release.path),
                    "PROFILES": project["profiles"],
                    "DBT": dbt_executable(),
                    "DBT_TARGET_PATH": str(folder / "target"),
                    "DBT_LOG_PATH": str(folder / "logs"),
                    "BENCH_PASSWORD": f"{{{{ conn.{project['name']}_plain.password }}}}",
                },
                append_env=True,
            )

    if "watcher" in project["modes"]:
        # Airflow finds a DAG that is created without `with` only in a global variable.
        globals()[f"{project['name']}_watcher"] = DbtDag(
            dag_id=f"{project['name']}_watcher",
            schedule=None,
            start_date=pendulum.datetime(2026, 1, 1),
            project_config=project_config,
            profile_config=profile_config,
            execution_config=ExecutionConfig(
                execution_mode=ExecutionMode.WATCHER, dbt_executable_path=dbt_executable()
            ),
            render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST),
            default_args={"retries": 1},
        )

    if "local" in project["modes"]:
        with DAG(dag_id=f"{project['name']}_local", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
            groups = [
                DbtTaskGroup(
                    group_id=name,
                    project_config=project_config,
                    profile_config=profile_config,
                    execution_config=ExecutionConfig(dbt_executable_path=dbt_executable()),
                    render_config=RenderConfig(load_method=LoadMode.DBT_MANIFEST, **chosen),
                )
                for name, chosen in (
                    ("audit_dbt_task", {"select": ["tag:audit"]}),
                    ("transform_data", {"exclude": ["tag:audit"]}),
                )
            ]
            # The article's check reads the states of the tasks.
            groups[0] >> groups[1] >> PythonOperator(task_id="dbt_check", python_callable=print)
