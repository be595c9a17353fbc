"""The task that loads files from S3 before dbt runs, and its rows in the audit table.

The task writes its audit rows itself, because audit_dbt_task starts dbt in few runs only, and does not run after a
failed load. The first run has no audit table yet, and a table of an older version lacks columns. Then the rows are
stored like those that dbt could not write, and the next audit task, which creates or migrates the table, writes them.
"""

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from mwaa_pipelines.audit_rows import run_values, write_audit_rows
from mwaa_pipelines.compatibility import AirflowException, AirflowFailException
from mwaa_pipelines.parameters import check_parameters
from mwaa_pipelines.results import MESSAGE_CHARACTERS, push_entries
from mwaa_pipelines.selection import AUDIT_FILE
from mwaa_pipelines.settings import PipelineError
from mwaa_pipelines.sql import error_text, remove_time_limit
from mwaa_pipelines.unwritten_rows import store_results

if TYPE_CHECKING:
    from mwaa_pipelines.load_files import LoadOutcome
    from mwaa_pipelines.profile import RedshiftProfileMapping
    from mwaa_pipelines.release import Release
    from mwaa_pipelines.settings import Pipeline

# Airflow's configuration option dbt.landing_bucket: the bucket of tables that name none.
LANDING_BUCKET = "AIRFLOW__DBT__LANDING_BUCKET"

log = logging.getLogger(__name__)


class LoadOperator(BaseOperator):
    """Loads the new files of a pipeline's tables, one table after the other, with one worker slot.

    A run that was started for certain files, by the run parameter `files`, loads these only: a file of another event
    has its own run. If none of them is a file of a table, such as a marker _SUCCESS, all new files are loaded.
    """

    def __init__(
        self, *, pipeline: "Pipeline", release: "Release", profile_mapping: "RedshiftProfileMapping", **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.pipeline, self.release, self.profile_mapping = pipeline, release, profile_mapping

    def execute(self, context: Any) -> None:
        """Load the files, and write the outcome to the audit table.

        Raises:
            AirflowFailException: files could not be loaded, after all others were. The message names each of them.
            PipelineError: a setting or the login is wrong.
            AirflowException: the warehouse failed.
        """
        # Imported here because parsing a DAG file does not need them.
        import boto3
        import redshift_connector

        from mwaa_pipelines.bucket_files import is_file_of
        from mwaa_pipelines.load_files import Loader

        check_parameters(context["params"])
        buckets = {table.table: table.bucket or _landing_bucket(table.table) for table in self.pipeline.load}
        requested = {
            table.table: {
                url for url in context["params"]["files"] or () if is_file_of(table, buckets[table.table], url)
            }
            for table in self.pipeline.load
        }
        tables = [table for table in self.pipeline.load if requested[table.table]] or self.pipeline.load
        schema = self.pipeline.target_schema
        try:
            with contextlib.closing(self.profile_mapping.connect()) as connection:
                # COPY can take long.
                remove_time_limit(connection)
                loader = Loader(
                    connection,
                    boto3.client("s3"),
                    schema,
                    self.pipeline.copy_role,
                    context["ti"].dag_id,
                    context["dag_run"].run_id,
                )
                outcomes = [loader.load(table, buckets[table.table], requested[table.table]) for table in tables]
                self._report(connection, outcomes, context)
        except redshift_connector.Error as error:
            raise AirflowException(f"the files could not be loaded: {error_text(error)}") from error
        for outcome in outcomes:
            log.info("%s: %s, %s rows", outcome.table, outcome.message, outcome.rows)
        if problems := [problem for outcome in outcomes for problem in outcome.problems]:
            count = f"{len(problems)} {'file was' if len(problems) == 1 else 'files were'} not loaded"
            # A retry would not change the files.
            raise AirflowFailException("\n".join([f"{count}: {problems[0]}", *problems[1:]]))

    def _report(self, connection: Any, outcomes: Sequence["LoadOutcome"], context: Any) -> None:
        """Push the results for dbt_check and the alert, and write them to the audit table."""
        run = run_values(context, str(uuid.uuid4()), "load", self.release.release_id)
        results = [outcome.result(self.pipeline.project_name, self.pipeline.target_database) for outcome in outcomes]
        entries = [
            {
                **{name: result[name] for name in ("unique_id", "status", "execution_time")},
                "message": result["message"][:MESSAGE_CHARACTERS],
                "rows": result["adapter_response"]["rows_affected"],
            }
            for result in results
        ]
        push_entries(entries, {**run, "generated_at": datetime.now(UTC).isoformat()}, context)
        if not self._is_audited():
            return
        try:
            write_audit_rows(connection, self.pipeline.target_schema, run, results)
        except Exception as error:  # noqa: BLE001 - a missing audit row does not fail the load
            log.warning("The audit table cannot be written yet: %s", error_text(error))
            with contextlib.suppress(Exception):
                connection.rollback()
            try:
                store_results(run, results, context)
            except Exception:
                log.exception("The results of the load could not be stored")

    def _is_audited(self) -> bool:
        manifest = json.loads((self.release.path / AUDIT_FILE).read_text(encoding="utf-8"))
        return bool(manifest["nodes"]) and self.pipeline.vars.get("audit_enabled", True) is not False


def _landing_bucket(table: str) -> str:
    bucket = os.environ.get(LANDING_BUCKET)
    if not bucket:
        raise PipelineError(
            f"load: {table} names no bucket, and Airflow's option dbt.landing_bucket (LandingBucketName of "
            "infra/environment.yml) is not set. Set one of them"
        )
    return bucket
