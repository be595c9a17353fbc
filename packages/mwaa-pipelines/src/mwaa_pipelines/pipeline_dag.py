"""The parts of a pipeline's DAG, which dags/pipelines.py puts together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.amazon.aws.operators.lambda_function import LambdaInvokeFunctionOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, Label, TaskGroup, get_parsing_context, task
from cosmos.airflow.task_group import DbtTaskGroup
from cosmos.config import ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from cosmos.constants import DbtResourceType, ExecutionMode, InvocationMode, LoadMode, TestBehavior

from mwaa_pipelines.audit_operator import AuditOperator
from mwaa_pipelines.config_file import load_pipelines
from mwaa_pipelines.dag_problems import is_dag_file, isolated, report
from mwaa_pipelines.documentation import documentation
from mwaa_pipelines.exact_nodes import run_exactly
from mwaa_pipelines.freshness_operator import FreshnessOperator
from mwaa_pipelines.load_operator import LoadOperator
from mwaa_pipelines.node_task import FUNCTION, FunctionOperator
from mwaa_pipelines.parameters import prepare, run_parameters
from mwaa_pipelines.producer import build_nodes
from mwaa_pipelines.profile import RedshiftProfileMapping
from mwaa_pipelines.release import Release, release_tag
from mwaa_pipelines.reporting import ENVIRONMENT
from mwaa_pipelines.results import push_error, push_results
from mwaa_pipelines.run_alerts import alert_of_timeout, deadline
from mwaa_pipelines.run_outcome import ALERT, check_dbt
from mwaa_pipelines.selection import AUDIT_FILE, Selection
from mwaa_pipelines.sensor_kinds import NODE_CONVERTERS, folder_converters, link_folders, start_at_once
from mwaa_pipelines.sensors import NodeSensor
from mwaa_pipelines.settings import Pipeline
from mwaa_pipelines.task_ids import (
    ALERT_TASK,
    AUDIT_GROUP,
    CHECK_TASK,
    FRESHNESS_TASK,
    LOAD_GROUP,
    NO_AUDIT_TASK,
    PRODUCER_TASK,
    TRANSFORM_GROUP,
    TURN_TASK,
)
from mwaa_pipelines.turns import TurnSensor
from mwaa_pipelines.unwritten_rows import delete_stored_results, inject_stored_results, store_unwritten_results
from mwaa_pipelines.worker import dbt_executable


def requested_pipelines(path: Path) -> "Iterator[PipelineDag]":
    """Yield the pipelines of a file whose DAGs Airflow asks for: all of them, or, in a task, only the task's own.

    Entries with problems are left out; pipelines_errors.py reports them.

    Raises:
        PipelineError: the whole file is unusable.
    """
    loaded = load_pipelines(path, get_parsing_context().dag_id)
    report(loaded.problems)
    for pipeline, release, selection in loaded.pipelines:
        pipeline_dag = None
        with isolated(pipeline):
            pipeline_dag = PipelineDag(pipeline, release, selection, _dag(pipeline, release, selection))
        if pipeline_dag:
            yield pipeline_dag


def _dag(settings: Pipeline, release: Release, selection: Selection) -> DAG:
    return DAG(
        dag_id=settings.dag_name,
        schedule=[Asset(name) for name in settings.assets] if settings.scheduled_on_assets else settings.schedule,
        start_date=pendulum.datetime(*settings.start_date.timetuple()[:3], tz=settings.timezone),
        catchup=settings.catchup,
        max_active_runs=1,
        dagrun_timeout=settings.run_timeout,
        on_failure_callback=alert_of_timeout(settings),
        **deadline(settings, release),
        tags=["dbt", release_tag(release.release_id), *settings.tags],
        doc_md=documentation(settings, release, selection),
        auto_register=is_dag_file(),
        default_args={
            "owner": settings.owner,
            "on_failure_callback": push_error,
            "retries": settings.retries,
            "retry_delay": timedelta(seconds=settings.retry_delay_seconds),
            "execution_timeout": settings.task_timeout,
        },
    )


@dataclass(frozen=True)
class PipelineDag:
    """One pipeline and its release. Each method creates a part of its DAG; call them within `with pipeline.dag():`."""

    settings: Pipeline
    release: Release
    selection: Selection
    _empty_dag: DAG

    @property
    def asset(self) -> Asset:
        """The asset that a successful run updates."""
        return Asset(self.settings.dag_name)

    @contextmanager
    def dag(self) -> Iterator[None]:
        """Create the DAG; tasks that are created within the `with` block belong to it.

        An exception in the block leaves only this DAG out. The block gets no DAG object, because Airflow also takes
        an unfinished DAG from a variable of the file.
        """
        with isolated(self.settings), self._empty_dag as dag:
            try:
                yield
                self._wait_for_turn(dag)
                # Last, because Airflow copies a DAG's parameters once for every base class of every task's operator.
                dag.params.update(run_parameters())
            except BaseException:
                dag.auto_register = False
                raise

    def load_sources(self) -> Any:
        """Create the task group that copies new files from S3 into the tables of the setting `load`.

        It comes before the audit table exists; `load_operator` says how its rows get there. Without `load` it is only
        an edge label, not a task group.
        """
        if not self.settings.load:
            return Label("nothing to load")
        with TaskGroup(LOAD_GROUP) as group:
            LoadOperator(
                task_id="copy_files",
                pipeline=self.settings,
                release=self.release,
                profile_mapping=self._profile_config.profile_mapping,
            )
        return group

    def audit_dbt_task(self) -> DbtTaskGroup:
        """Create the task group that creates or migrates the audit table, before anything writes to it.

        Most runs find it up to date and start no dbt process. If the dbt project has no audit trail, the group has a
        task that does nothing, because Airflow reports a cycle when an empty group is linked.
        """
        group = DbtTaskGroup(
            group_id=AUDIT_GROUP,
            project_config=self._project_config(self.release.path / AUDIT_FILE),
            profile_config=self._profile_config,
            execution_config=ExecutionConfig(
                execution_mode=ExecutionMode.LOCAL,
                invocation_mode=InvocationMode.SUBPROCESS,
                dbt_executable_path=dbt_executable(),
            ),
            render_config=RenderConfig(
                load_method=LoadMode.DBT_MANIFEST,
                test_behavior=TestBehavior.BUILD,
                node_converters={DbtResourceType.MODEL: AuditOperator.of_node},
                node_conversion_by_task_group=False,
                emit_datasets=False,
            ),
            operator_args={
                **self._operator_args,
                "pre_execute": prepare,
                "on_execute_callback": inject_stored_results,
                "on_success_callback": delete_stored_results,
            },
        )
        run_exactly(group, self.release.manifest_path)
        self._run_in_ecs(*group.children.values())
        if not group.children:
            EmptyOperator(task_id=NO_AUDIT_TASK, task_group=group)
        return group

    def transform_data(self) -> DbtTaskGroup:
        """Create the task group that builds and tests the pipeline's models.

        With execution_mode watcher, one dbt process builds everything, and one sensor for each model, and one for its
        tests, shows the progress and retries. In a large project, one sensor does so for each folder. With ecs, the dbt
        process runs in a task of ECS. With local, each of them is its own dbt process.
        """
        watched, folders = self.settings.execution_mode != "local", self.selection.folders
        test_behavior = TestBehavior(self.settings.test_behavior)
        if folders and test_behavior == TestBehavior.AFTER_EACH:
            # One task for a node and its tests.
            test_behavior = TestBehavior.BUILD
        if watched:
            converters = folder_converters(folders) if folders else NODE_CONVERTERS
        else:
            converters = {FUNCTION: FunctionOperator.of_node}
        group = DbtTaskGroup(
            group_id=TRANSFORM_GROUP,
            project_config=self._project_config(self.selection.manifest_path),
            profile_config=self._profile_config,
            execution_config=ExecutionConfig(
                execution_mode=ExecutionMode.WATCHER if watched else ExecutionMode.LOCAL,
                invocation_mode=InvocationMode.SUBPROCESS,
                dbt_executable_path=dbt_executable(),
                # A retry of the producer would build nothing, and would delete the results of the first try.
                setup_operator_args={"retries": 0, "pre_execute": prepare},
            ),
            render_config=RenderConfig(
                load_method=LoadMode.DBT_MANIFEST,
                test_behavior=test_behavior,
                # Otherwise a test of several models runs after the first of them, before the others exist.
                should_detach_multiple_parents_tests=not watched,
                node_converters=converters,
                node_conversion_by_task_group=False,
                emit_datasets=False,
            ),
            operator_args=self._operator_args if watched else {**self._operator_args, "pre_execute": prepare},
        )
        run_exactly(group, self.release.manifest_path, self.selection.exclude)
        if watched:
            link_folders(group)
            sensors = [task for task in group.dag.tasks if isinstance(task, NodeSensor)]
            producer = group.dag.get_task(PRODUCER_TASK)
            producer.watched_together = {
                sensor.outcome_key: sensor.node_ids for sensor in sensors if sensor.outcome_key not in sensor.node_ids
            }
            producer.select = " ".join(self.selection.select) or None
            producer.exclude = " ".join(self.selection.exclude) or None
            producer.selector = self.selection.selector
            if producer.dbt_cmd_flags:
                # Without tests, Cosmos lists the types of nodes that it knows.
                producer.dbt_cmd_flags = [*producer.dbt_cmd_flags, "--resource-type", FUNCTION.value]
            # Cosmos's own callback would leave a Variable behind for a retry, and the producer has no retries.
            producer.on_failure_callback = [push_error]
            producer.execute = build_nodes
            self._run_in_ecs(producer, defers=True)
            start_at_once(sensors)
        if self.settings.source_freshness != "ignore" and self.selection.sources:
            self._measure_sources_before(group)
        return group

    def dbt_check(self) -> Any:
        """Create the task that fails if anything before it failed, naming what failed.

        It is a branch, so that a run without failures skips the alert without using a worker slot for it. It updates
        the assets of public models, because Airflow ignores the outlets of tasks that end in the triggerer, as the
        sensors do.
        """
        outlets = [Asset(name) for name in self.selection.public_models]
        return task.branch(check_dbt, task_id=CHECK_TASK, trigger_rule="all_done", retries=0, outlets=outlets)(
            release_id=self.release.release_id,
            alerts=bool(self.settings.sns_lambda_function_name),
            warnings=self.settings.warnings,
            rows_change_percent=self.settings.rows_change_percent,
        )

    def sns_notification_for_failure(self) -> Any:
        """Create the task that sends the alert. Without an alert function it is only an edge label, not a task."""
        if not self.settings.sns_lambda_function_name:
            return Label("no alerts")
        return LambdaInvokeFunctionOperator(
            task_id=ALERT_TASK,
            function_name=self.settings.sns_lambda_function_name,
            payload=ALERT,
            trigger_rule="all_done",
        )

    def _run_in_ecs(self, *tasks: Any, defers: bool = False) -> None:
        """With execution_mode ecs, let tasks that Cosmos created run dbt in ECS."""
        if self.settings.execution_mode == "ecs":
            # Imported here, because it imports boto3, which takes long at each parse.
            from mwaa_pipelines.ecs_operator import run_in_ecs

            for task in tasks:
                run_in_ecs(task, self.settings.ecs, self.release, defers=defers)

    def _measure_sources_before(self, group: DbtTaskGroup) -> None:
        roots, is_required = list(group.get_roots()), self.settings.source_freshness == "require"
        with group:
            freshness = FreshnessOperator(
                task_id=FRESHNESS_TASK,
                is_required=is_required,
                select=" ".join(self.selection.sources),
                project_dir=self.release.path,
                profile_config=self._profile_config,
                invocation_mode=InvocationMode.SUBPROCESS,
                dbt_executable_path=dbt_executable(),
                install_deps=False,
                should_store_compiled_sql=False,
                # The audit rows say it, because dbt's status does not.
                env={**self._environment, "DBT_SOURCE_SEVERITY": "error" if is_required else "warn"},
                vars=self.settings.vars or None,
            )
        self._run_in_ecs(freshness)
        freshness >> roots

    def _wait_for_turn(self, dag: DAG) -> None:
        """If other pipelines build in the same schema, start the DAG with a task that waits until they do not run."""
        if self.settings.turns:
            roots = dag.roots
            TurnSensor(task_id=TURN_TASK, own=self.settings.dag_name, turns=self.settings.turns) >> roots

    @cached_property
    def _profile_config(self) -> ProfileConfig:
        return ProfileConfig(
            profile_name=self.settings.project_name,
            target_name="prod",
            profile_mapping=RedshiftProfileMapping(
                conn_id=self.settings.redshift_connection_id,
                secret_name=self.settings.secret_name,
                secret_env=self.settings.secret_env,
                profile_args={
                    "dbname": self.settings.target_database,
                    "schema": self.settings.target_schema,
                    "threads": self.settings.threads,
                },
            ),
        )

    def _project_config(self, manifest_path: Path) -> ProjectConfig:
        return ProjectConfig(
            dbt_project_path=self.release.path,
            # Cosmos only checks that the folder exists. A project has no models/ if all its models are in packages.
            models_relative_path=".",
            manifest_path=manifest_path,
            project_name=self.settings.project_name,
            install_dbt_deps=False,
            dbt_vars=self.settings.vars or None,
            env_vars=self._environment,
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **self.settings.env,
            "DBT_RELEASE_ID": self.release.release_id,
            # Airflow sets the other AIRFLOW_CTX_ variables.
            "AIRFLOW_CTX_LOG_URL": "{{ ti.log_url }}",
            **ENVIRONMENT,
            # CI ran the unit tests, which test code and not data. Those of an incremental model also need its
            # table, which does not exist before the first run.
            "DBT_EXCLUDE_RESOURCE_TYPES": "unit_test",
        }

    @property
    def _operator_args(self) -> dict[str, Any]:
        # Results are stored first, because Airflow kills a task that does not end within 5 seconds of a SIGTERM.
        return {"callback": [store_unwritten_results, push_results], "should_store_compiled_sql": False}
