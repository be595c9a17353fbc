"""The task of the audit group. It runs dbt only if there is something to build, write or delete."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cosmos.operators.local import DbtBuildLocalOperator

from mwaa_pipelines.node_task import NodeTask
from mwaa_pipelines.sql import quote_identifier

# The task's XCom: the release that built the audit table and its views, and when.
BUILT_KEY = "audit_built"
# dbt also deletes the rows that are older than audit_retention_days.
LONGEST_PAUSE = timedelta(days=7)

log = logging.getLogger(__name__)


class AuditOperator(NodeTask, DbtBuildLocalOperator):
    """Builds the audit table and its views: once per release, and at least once in seven days.

    It also runs dbt if earlier runs stored results that are not in the audit table, and if the table cannot be queried.
    A further try always runs dbt, so clearing the task repairs views that somebody dropped.
    """

    further_selectors = ("tag:audit_view",)

    def execute(self, context: Any, **kwargs: Any) -> None:
        """Run dbt, unless an earlier run has done all there is to do and the audit table can be queried."""
        ti = context["ti"]
        release = Path(self.project_dir).name
        last = _last_built(ti)
        is_built = last is not None and last["release"] == release and _is_recent(last["at"])
        if is_built and ti.try_number == 1 and not context["kept_results"] and self._can_query_table():
            log.info(
                "dbt is not needed: the audit table can be queried, release %s built it and its views at %s, and no "
                "results are stored for it. Clear this task to build them again.",
                release,
                last["at"][:19],
            )
            return
        super().execute(context, **kwargs)
        built_at = datetime.now(UTC).isoformat()
        ti.xcom_push(key=BUILT_KEY, value={"release": release, "at": built_at})

    def _can_query_table(self) -> bool:
        """Query the audit table, so that a wrong login or a warehouse that is down ends this task and not the next one.

        False also means that only dbt can tell: it gets IAM's temporary credentials, and a project can rename schemas.
        """
        # Imported here because parsing a DAG file does not need it.
        import redshift_connector

        mapping = self.profile_config.profile_mapping
        if mapping.conn.extra_dejson.get("iam"):
            return False
        table = f"{quote_identifier(mapping.profile_args['schema'])}.{quote_identifier('audit_table')}"
        try:
            with mapping.connect() as connection, connection.cursor() as cursor:
                cursor.execute(f"select 1 from {table} limit 0")  # noqa: S608 - quoted above
        except (redshift_connector.Error, OSError) as error:
            log.warning("The audit table cannot be queried, so dbt runs and reports why: %s", error)
            return False
        return True


def _last_built(ti: Any) -> dict[str, str] | None:
    # Airflow returns one value without a list, and several in no order.
    pulled = ti.xcom_pull(task_ids=ti.task_id, key=BUILT_KEY, include_prior_dates=True)
    values = pulled if isinstance(pulled, list) else [pulled]
    return max(filter(None, values), key=lambda built: built["at"], default=None)


def _is_recent(time: str) -> bool:
    return datetime.now(UTC) - datetime.fromisoformat(time) < LONGEST_PAUSE
