"""DAG file of the alternatives: Cosmos as its documentation shows it. The benchmark puts it beside dags/pipelines.py.

`<project>_watcher`: ExecutionMode.WATCHER for the whole project. `<project>_local`: the article's design, one dbt
process for each model and each test; audit group, transform group, check. Release, dbt, database and threads are ours;
beside Cosmos's defaults it only asks not to install dbt's packages, as there are none. What to make stands in
alternatives.json: `[{"name": project, "schema": ..., "threads": ..., "modes": ["watcher", "local"]}]`.
"""

import json
from pathlib import Path

import pendulum
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

# startup.sh sets these for the environment; here Cosmos's own defaults hold.
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

    if "watcher" in project["modes"]:
        # Airflow finds a DAG that is made in no `with` by its name in the module.
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
            # The article's looks at the states of tasks.
            groups[0] >> groups[1] >> PythonOperator(task_id="dbt_check", python_callable=print)
