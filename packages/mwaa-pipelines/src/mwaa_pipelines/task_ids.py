"""The ids of a pipeline's tasks and task groups. Other packages and people's queries rely on them."""

# Only in pipelines that share a schema.
TURN_TASK = "wait_for_turn"
LOAD_GROUP = "load_sources"
AUDIT_GROUP = "audit_dbt_task"
# The only task of the audit group in a project without audit trail.
NO_AUDIT_TASK = "no_audit_trail"
TRANSFORM_GROUP = "transform_data"
FRESHNESS_TASK = "source_freshness"
# With execution_mode watcher: Cosmos's name of the task that runs dbt.
PRODUCER_TASK = f"{TRANSFORM_GROUP}.dbt_producer_watcher"
CHECK_TASK = "dbt_check"
SUCCESS_TASK = "pipeline_succeeded"
ALERT_TASK = "sns_notification_for_failure"

# States of a task in Airflow that has ended.
ENDED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
