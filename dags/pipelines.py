"""Makes one DAG of each entry of pipelines.yml: audit, transform, check, alert."""

from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.providers.amazon.aws.operators.lambda_function import LambdaInvokeFunctionOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, get_parsing_context, task
from cosmos.airflow.task_group import DbtTaskGroup
from cosmos.config import ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import ExecutionMode, InvocationMode, LoadMode, TestBehavior

from mwaa_pipelines.audit_views import record_audit_views, select_audit_views
from mwaa_pipelines.config_file import load_pipelines
from mwaa_pipelines.documentation import documentation
from mwaa_pipelines.parameters import prepare, run_parameters
from mwaa_pipelines.profile import RedshiftProfileMapping
from mwaa_pipelines.results import keep_error, keep_results
from mwaa_pipelines.run_alerts import alert_of_timeout, deadline
from mwaa_pipelines.run_outcome import ALERT, ALERT_TASK, SUCCESS_TASK, check_dbt
from mwaa_pipelines.sensors import NODE_CONVERTERS
from mwaa_pipelines.unwritten_rows import forget_kept, hand_over_kept, keep_unrecorded
from mwaa_pipelines.worker import dbt_executable

# The audit group's; and what is no task, of which Cosmos would warn, node by node, at every parse.
NEVER_TASKS = (
    *("tag:audit", "tag:audit_view"),
    *("resource_type:analysis", "resource_type:exposure", "resource_type:operation"),
)

# A task makes its own DAG only. Entries that cannot be made are told by pipelines_errors.py.
only = get_parsing_context().dag_id
for pipeline, release in load_pipelines(Path(__file__).with_name("pipelines.yml"), only).pipelines:
    watched = pipeline.execution_mode == "watcher"
    profile_config = ProfileConfig(
        profile_name=pipeline.project_name,
        target_name="prod",
        profile_mapping=RedshiftProfileMapping(
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
        dbt_vars=pipeline.vars or None,
        env_vars={
            "DBT_RELEASE_ID": release.release_id,
            # Airflow sets the other variables of this name by itself.
            "AIRFLOW_CTX_LOG_URL": "{{ ti.log_url }}",
            # What a recovery of audit rows reads, in one file.
            "DBT_LOG_FORMAT_FILE": "json",
            "DBT_LOG_FILE_MAX_BYTES": "0",
            # CI ran them: they test code, not data. An incremental model's would need a table that the first run lacks.
            "DBT_EXCLUDE_RESOURCE_TYPES": "unit_test",
        },
    )
    operator_args = {"callback": [keep_results, keep_unrecorded], "should_store_compiled_sql": False}

    with DAG(
        dag_id=pipeline.dag_name,
        schedule=[Asset(name) for name in pipeline.schedule] if pipeline.scheduled_on_assets else pipeline.schedule,
        start_date=pendulum.datetime(*pipeline.start_date.timetuple()[:3], tz=pipeline.timezone),
        catchup=pipeline.catchup,
        max_active_runs=1,
        dagrun_timeout=pipeline.run_timeout,
        on_failure_callback=alert_of_timeout(pipeline),
        **deadline(pipeline, release),
        tags=["dbt", *pipeline.tags],
        doc_md=documentation(pipeline, release),
        default_args={
            "owner": pipeline.owner,
            "on_failure_callback": keep_error,
            "retries": pipeline.retries,
            "retry_delay": timedelta(seconds=pipeline.retry_delay_seconds),
            "execution_timeout": pipeline.task_timeout,
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
            operator_args={
                **operator_args,
                "callback": [*operator_args["callback"], record_audit_views],
                "pre_execute": prepare,
                "on_execute_callback": [hand_over_kept, select_audit_views],
                "on_success_callback": forget_kept,
            },
        )

        # Watched, one dbt process builds everything; a sensor for each model and its tests shows how it goes, and
        # retries it. Local, each of them is a dbt process.
        transform_data = DbtTaskGroup(
            group_id="transform_data",
            project_config=project_config,
            profile_config=profile_config,
            execution_config=ExecutionConfig(
                execution_mode=ExecutionMode(pipeline.execution_mode),
                invocation_mode=InvocationMode.SUBPROCESS,
                dbt_executable_path=dbt_executable(),
                # A second try of the producer would build nothing, and its start would wipe what the first reported.
                setup_operator_args={"retries": 0, "pre_execute": prepare},
            ),
            render_config=RenderConfig(
                load_method=LoadMode.DBT_MANIFEST,
                select=list(pipeline.select),
                exclude=[*NEVER_TASKS, *pipeline.exclude],
                test_behavior=TestBehavior(pipeline.test_behavior),
                node_converters=NODE_CONVERTERS if watched else {},
                node_conversion_by_task_group=False,
                emit_datasets=False,
            ),
            operator_args=operator_args if watched else {**operator_args, "pre_execute": prepare},
        )

        # After a failure Cosmos would leave a Variable behind for a second try, which the producer has none of.
        if watched:
            dag.get_task("transform_data.dbt_producer_watcher").on_failure_callback = [keep_error]

        # A branch, so that a clean run skips the alert without a worker's help.
        dbt_check = task.branch(check_dbt, task_id="dbt_check", trigger_rule="all_done", retries=0)(
            groups=["audit_dbt_task", "transform_data"],
            release_id=release.release_id,
            alerts=bool(pipeline.sns_lambda_function_name),
            warnings=pipeline.warnings,
        )

        # As a leaf, it is what makes a run with a failure end failed, whether the alert was sent or not.
        pipeline_succeeded = EmptyOperator(task_id=SUCCESS_TASK, outlets=[Asset(pipeline.dag_name)])

        # Airflow would take the empty first group of a project that brings no audit for a cycle.
        if audit_dbt_task.children:
            audit_dbt_task >> transform_data
        transform_data >> dbt_check >> pipeline_succeeded

        if pipeline.sns_lambda_function_name:
            sns_notification_for_failure = LambdaInvokeFunctionOperator(
                task_id=ALERT_TASK,
                function_name=pipeline.sns_lambda_function_name,
                payload=ALERT,
                trigger_rule="all_done",
            )
            dbt_check >> sns_notification_for_failure

        # Last, or Airflow would copy them for each task, once for each of the classes that its operator is made of.
        dag.params.update(run_parameters())
