"""Makes one DAG of each entry of pipelines.yml: audit, transform, check, alert."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.amazon.aws.operators.lambda_function import LambdaInvokeFunctionOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, task
from cosmos.airflow.task_group import DbtTaskGroup
from cosmos.config import ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, TestBehavior
from dbt_pipeline.profile import RedshiftSecretProfileMapping
from dbt_pipeline.release import current_release
from dbt_pipeline.report import ALERT, check_dbt
from dbt_pipeline.results import keep_error, keep_results
from dbt_pipeline.sensors import NODE_CONVERTERS
from dbt_pipeline.settings import load_pipelines
from dbt_pipeline.worker import check_worker, dbt_executable

for pipeline in load_pipelines(Path(__file__).with_name("pipelines.yml")):
    release = current_release(pipeline.project_name)

    profile_config = ProfileConfig(
        profile_name=pipeline.project_name,
        target_name="prod",
        profile_mapping=RedshiftSecretProfileMapping(
            conn_id=pipeline.redshift_connection_id,
            secret_name=pipeline.secret_name,
            profile_args={
                "dbname": pipeline.target_database,
                "schema": pipeline.target_schema,
                "threads": pipeline.threads,
            },
        ),
    )
    project_config = ProjectConfig(
        dbt_project_path=release.path,
        manifest_path=release.manifest_path,
        project_name=pipeline.project_name,
        install_dbt_deps=False,
        env_vars={
            "DBT_RELEASE_ID": release.release_id,
            # Airflow sets the other variables of this name by itself.
            "AIRFLOW_CTX_LOG_URL": "{{ ti.log_url }}",
            # CI ran them: they test code, not data. An incremental model's would need a table that the first run lacks.
            "DBT_EXCLUDE_RESOURCE_TYPES": "unit_test",
        },
    )
    operator_args = {"callback": keep_results, "should_store_compiled_sql": False}

    with DAG(
        dag_id=pipeline.dag_name,
        schedule=pipeline.schedule,
        start_date=datetime(*pipeline.start_date.timetuple()[:3], tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        tags=["dbt", *pipeline.tags],
        doc_md=f"dbt project `{pipeline.project_name}`, release `{release.release_id}`",
        default_args={
            "owner": pipeline.owner,
            "on_failure_callback": keep_error,
            "retries": pipeline.retries,
            "retry_delay": timedelta(seconds=pipeline.retry_delay_seconds),
        },
    ) as dag:
        # One task, one dbt process: makes or migrates the audit table before anything writes to it.
        audit_dbt_task = DbtTaskGroup(
            group_id="audit_dbt_task",
            project_config=project_config,
            profile_config=profile_config,
            execution_config=ExecutionConfig(
                execution_mode=ExecutionMode.LOCAL,
                invocation_mode=InvocationMode.SUBPROCESS,
                dbt_executable_path=dbt_executable(),
            ),
            render_config=RenderConfig(
                load_method=LoadMode.DBT_MANIFEST,
                select=["tag:audit"],
                test_behavior=TestBehavior.BUILD,
                emit_datasets=False,
            ),
            operator_args={**operator_args, "pre_execute": check_worker},
        )

        # One dbt process builds everything; a sensor for each model and its tests shows how it goes, and retries it.
        transform_data = DbtTaskGroup(
            group_id="transform_data",
            project_config=project_config,
            profile_config=profile_config,
            execution_config=ExecutionConfig(
                execution_mode=ExecutionMode.WATCHER,
                invocation_mode=InvocationMode.SUBPROCESS,
                dbt_executable_path=dbt_executable(),
                # A second try of the producer would build nothing, and its start would wipe what the first reported.
                setup_operator_args={"retries": 0, "pre_execute": check_worker},
            ),
            render_config=RenderConfig(
                load_method=LoadMode.DBT_MANIFEST,
                # What is no task Cosmos would warn of, node by node, at every parse.
                exclude=["tag:audit", "resource_type:analysis", "resource_type:exposure", "resource_type:operation"],
                test_behavior=TestBehavior.AFTER_EACH,
                node_converters=NODE_CONVERTERS,
                node_conversion_by_task_group=False,
                emit_datasets=False,
            ),
            operator_args=operator_args,
        )

        # After a failure Cosmos would leave a Variable behind for a second try, which the producer has none of.
        dag.get_task("transform_data.dbt_producer_watcher").on_failure_callback = [keep_error]

        dbt_check = task(check_dbt, task_id="dbt_check", trigger_rule="all_done", retries=0)(
            groups=["audit_dbt_task", "transform_data"], release_id=release.release_id
        )

        # As a leaf, it is what makes a run with a failure end failed, whether the alert was sent or not.
        pipeline_succeeded = EmptyOperator(task_id="pipeline_succeeded", outlets=[Asset(pipeline.dag_name)])

        audit_dbt_task >> transform_data >> dbt_check >> pipeline_succeeded

        if pipeline.sns_lambda_function_name:
            sns_notification_for_failure = LambdaInvokeFunctionOperator(
                task_id="sns_notification_for_failure",
                function_name=pipeline.sns_lambda_function_name,
                payload=ALERT,
                trigger_rule="one_failed",
            )
            dbt_check >> sns_notification_for_failure
