{#
  The columns of audit_table and their types, in order. People query the first ten by position and by name. Append new
  columns at the end: an existing table gets them the next time the model is built.
#}
{% macro audit_columns() %}
    {%- do return({
        'load_id': 'varchar(1024)',
        'invocation_id': 'varchar(64)',
        'database_name': 'varchar(128)',
        'schema_name': 'varchar(128)',
        'name': 'varchar(512)',
        'resource_type': 'varchar(32)',
        'status': 'varchar(32)',
        'execution_time': 'double precision',
        'rows_affected': 'bigint',
        'model_execution_date': 'date',
        'unique_id': 'varchar(1024)',
        'materialization': 'varchar(64)',
        'relation_name': 'varchar(512)',
        'message': 'varchar(4096)',
        'failures': 'bigint',
        'severity': 'varchar(16)',
        'started_at': 'timestamp',
        'completed_at': 'timestamp',
        'compile_seconds': 'double precision',
        'execute_seconds': 'double precision',
        'thread_id': 'varchar(64)',
        'dbt_command': 'varchar(32)',
        'full_refresh': 'boolean',
        'target_name': 'varchar(64)',
        'dbt_version': 'varchar(32)',
        'query_id': 'varchar(128)',
        'release_id': 'varchar(128)',
        'code_version': 'varchar(64)',
        'node_checksum': 'varchar(128)',
        'owner': 'varchar(256)',
        'tags': 'varchar(2048)',
        'depends_on': 'varchar(4096)',
        'source_max_loaded_at': 'timestamp',
        'airflow_dag_id': 'varchar(256)',
        'airflow_run_id': 'varchar(256)',
        'airflow_task_id': 'varchar(256)',
        'airflow_try_number': 'integer',
        'airflow_logical_date': 'timestamp',
        'airflow_log_url': 'varchar(2048)',
        'bytes_loaded': 'bigint',
    }) -%}
{% endmacro %}


{#
  The values that all rows of one invocation share, by column. Reads the environment when the hook runs, not while dbt parses:
  dbt parses the project again whenever a variable changes that was read at parse time, which is every Airflow task.
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
        'model_execution_date': run_started_at.strftime('%Y-%m-%d'),
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
        'airflow_logical_date': logical_date | string or none,
        'airflow_log_url': env_var('AIRFLOW_CTX_LOG_URL', '') or none,
        'source_severity': env_var('DBT_SOURCE_SEVERITY', 'error'),
    }) -%}
{% endmacro %}
