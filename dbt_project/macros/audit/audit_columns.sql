{#
  The columns of audit_table, once: (name, type, value). The model's SELECT, the INSERT and the values all come from here,
  so they cannot disagree. The first ten are what people query by position and by name; append new ones at the end.

  result: one element of `results` in on-run-end. Without it, what still has a value is the same for all results.
  run: what is the same for the whole invocation, from audit_run(). Without it, only names and types mean something.
#}
{% macro audit_columns(result=none, run={}) %}
    {%- set node = result.node if result else {} -%}
    {%- set config = node.config or {} -%}
    {%- set response = (result.adapter_response if result else none) or {} -%}
    {%- set timing = {} -%}
    {%- set seconds = {} -%}
    {%- for step in (result.timing if result else none) or [] -%}
        {%- do timing.update({step.name: step}) -%}
        {#- A step that was broken off has no end. -#}
        {%- if step.started_at and step.completed_at -%}
            {%- do seconds.update({step.name: (step.completed_at - step.started_at).total_seconds()}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set first = timing.get('compile') or timing.get('execute') -%}
    {%- set last = timing.get('execute') or timing.get('compile') -%}
    {%- set rows_affected = response.get('rows_affected') -%}
    {%- do return([
        ('load_id', 'varchar(1024)', run.invocation_id ~ '.' ~ node.unique_id if result else none),
        ('invocation_id', 'varchar(64)', run.invocation_id),
        ('database_name', 'varchar(128)', node.database),
        ('schema_name', 'varchar(128)', node.schema),
        ('name', 'varchar(512)', node.name),
        ('resource_type', 'varchar(32)', node.resource_type),
        ('status', 'varchar(32)', result.status if result else none),
        ('execution_time', 'double precision', result.execution_time if result else none),
        ('rows_affected', 'bigint', none if rows_affected == -1 else rows_affected),
        ('model_execution_date', 'date', run.date),
        ('unique_id', 'varchar(1024)', node.unique_id),
        ('materialization', 'varchar(64)', config.materialized),
        ('relation_name', 'varchar(512)', node.relation_name),
        ('message', 'varchar(4096)', result.message if result else none),
        ('failures', 'bigint', result.failures if result else none),
        ('severity', 'varchar(16)', config.severity | lower if config.severity else none),
        ('started_at', 'timestamp', first.started_at if first else none),
        ('completed_at', 'timestamp', last.completed_at if last else none),
        ('compile_seconds', 'double precision', seconds.get('compile')),
        ('execute_seconds', 'double precision', seconds.get('execute')),
        ('thread_id', 'varchar(64)', result.thread_id if result else none),
        ('dbt_command', 'varchar(32)', run.dbt_command),
        ('full_refresh', 'boolean', run.full_refresh),
        ('target_name', 'varchar(64)', run.target_name),
        ('dbt_version', 'varchar(32)', run.dbt_version),
        ('query_id', 'varchar(128)', response.get('query_id')),
        ('release_id', 'varchar(128)', run.release_id),
        ('code_version', 'varchar(64)', run.code_version),
        ('node_checksum', 'varchar(128)', node.checksum.checksum if node.checksum else none),
        ('owner', 'varchar(256)', config.meta.owner if config.meta else none),
        ('tags', 'varchar(2048)', tojson(node.tags | list) if node.tags else none),
        ('depends_on', 'varchar(4096)', tojson(node.depends_on.nodes | list) if node.depends_on else none),
        ('source_max_loaded_at', 'timestamp', result.max_loaded_at if result else none),
        ('airflow_dag_id', 'varchar(256)', run.airflow_dag_id),
        ('airflow_run_id', 'varchar(256)', run.airflow_run_id),
        ('airflow_task_id', 'varchar(256)', run.airflow_task_id),
        ('airflow_try_number', 'integer', run.airflow_try_number),
        ('airflow_logical_date', 'timestamp', run.airflow_logical_date),
        ('airflow_log_url', 'varchar(2048)', run.airflow_log_url),
    ]) -%}
{% endmacro %}


{#
  What all rows of one invocation share. The environment is read here, when the hook runs, and never while parsing: a
  variable read at parse time would make dbt parse the project again for every Airflow task.
#}
{% macro audit_run() %}
    {%- set release_id = env_var('DBT_RELEASE_ID', '') -%}
    {%- set logical_date = env_var('AIRFLOW_CTX_LOGICAL_DATE', '') -%}
    {%- if logical_date -%}
        {%- set logical_date = modules.datetime.datetime.fromisoformat(logical_date) -%}
        {%- if logical_date.tzinfo -%}
            {%- set logical_date = logical_date.astimezone(modules.pytz.utc).replace(tzinfo=none) -%}
        {%- endif -%}
    {%- endif -%}
    {%- do return({
        'invocation_id': invocation_id,
        'date': run_started_at.strftime('%Y-%m-%d'),
        'dbt_command': flags.WHICH,
        'full_refresh': flags.FULL_REFRESH | as_bool if flags.FULL_REFRESH is not none else false,
        'target_name': target.name,
        'dbt_version': dbt_version,
        'release_id': release_id or none,
        'code_version': release_id.split('-', 1)[1] if '-' in release_id else none,
        'airflow_dag_id': env_var('AIRFLOW_CTX_DAG_ID', '') or none,
        'airflow_run_id': env_var('AIRFLOW_CTX_DAG_RUN_ID', '') or none,
        'airflow_task_id': env_var('AIRFLOW_CTX_TASK_ID', '') or none,
        'airflow_try_number': env_var('AIRFLOW_CTX_TRY_NUMBER', '') or none,
        'airflow_logical_date': logical_date or none,
        'airflow_log_url': env_var('AIRFLOW_CTX_LOG_URL', '') or none,
    }) -%}
{% endmacro %}
