{#
  The columns of audit_table, once: for each of `results` a list of (name, type, value). The model's SELECT, the INSERT and the
  values all come from here, so they cannot disagree. The first ten are what people query by position and by name; append new
  ones at the end.

  results: `results` of on-run-end, or what recover_audit_rows() makes of kept ones. Without any, only names and types mean
      something.
  run: what is the same for all of them, from audit_run(), by column name.

  It runs for thousands of results, in dbt's sandbox, which looks closely at each `x.y` and each call, and not at `x['y']` of a
  dictionary. Hence one call for all results, nodes as dictionaries, and no attribute read twice.
#}
{% macro audit_columns(results=[{'node': {}}], run={}) %}
    {%- set all = graph if execute else {'nodes': {}, 'sources': {}, 'exposures': {}} -%}
    {%- set nodes, sources, exposures = all['nodes'], all['sources'], all['exposures'] -%}
    {%- set second = modules.datetime.timedelta(seconds=1) if execute else 1 -%}
    {%- set rows = [] -%}
    {%- set add = rows.append -%}
    {%- for result in results -%}
        {%- set unique_id = result.node.unique_id -%}
        {%- set node = nodes[unique_id] or sources[unique_id] or exposures[unique_id] or result.node -%}
        {%- set kind = node['resource_type'] or none -%}
        {%- set config = node['config'] or {} -%}
        {%- set response = result.adapter_response or {} -%}
        {%- set rows_affected = response['rows_affected'] -%}
        {#- Steps `compile` and `execute`, the second not always there; one that was broken off has no end. -#}
        {%- set timing = result.timing or [{}] -%}
        {%- set began, compiled = timing[0].started_at or none, timing[0].completed_at or none -%}
        {%- set ran, ended = (timing[1].started_at, timing[1].completed_at) if timing[1] else (none, compiled) -%}
        {%- do add([
            ('load_id', 'varchar(1024)', run['invocation_id'] ~ '.' ~ unique_id),
            ('invocation_id', 'varchar(64)', run['invocation_id']),
            ('database_name', 'varchar(128)', node['database'] or none),
            ('schema_name', 'varchar(128)', node['schema'] or none),
            ('name', 'varchar(512)', node['name']),
            ('resource_type', 'varchar(32)', kind),
            ('status', 'varchar(32)', result.status),
            ('execution_time', 'double precision', result.execution_time),
            ('rows_affected', 'bigint', none if rows_affected is undefined or rows_affected == -1 else rows_affected),
            ('model_execution_date', 'date', run['model_execution_date']),
            ('unique_id', 'varchar(1024)', unique_id),
            ('materialization', 'varchar(64)', config['materialized'] or none),
            ('relation_name', 'varchar(512)', node['relation_name'] or none),
            ('message', 'varchar(4096)', result.message),
            ('failures', 'bigint', result.failures),
            ('severity', 'varchar(16)', config['severity'] | lower if kind in ('test', 'unit_test') and config['severity'] else none),
            ('started_at', 'timestamp', began),
            ('completed_at', 'timestamp', ended),
            ('compile_seconds', 'double precision', (compiled - began) / second if compiled else none),
            ('execute_seconds', 'double precision', (ended - ran) / second if ran and ended else none),
            ('thread_id', 'varchar(64)', result.thread_id),
            ('dbt_command', 'varchar(32)', run['dbt_command']),
            ('full_refresh', 'boolean', run['full_refresh']),
            ('target_name', 'varchar(64)', run['target_name']),
            ('dbt_version', 'varchar(32)', run['dbt_version']),
            ('query_id', 'varchar(128)', response['query_id'] if 'query_id' in response else none),
            ('release_id', 'varchar(128)', run['release_id']),
            ('code_version', 'varchar(64)', run['code_version']),
            ('node_checksum', 'varchar(128)', (node['checksum'] or {})['checksum'] or none),
            ('owner', 'varchar(256)', (config['meta'] or {})['owner'] or none),
            ('tags', 'varchar(2048)', tojson(node['tags']) if node['tags'] else none),
            ('depends_on', 'varchar(4096)', tojson(node['depends_on']['nodes'] or []) if node['depends_on'] else none),
            ('source_max_loaded_at', 'timestamp', result.max_loaded_at if kind == 'source' else none),
            ('airflow_dag_id', 'varchar(256)', run['airflow_dag_id']),
            ('airflow_run_id', 'varchar(256)', run['airflow_run_id']),
            ('airflow_task_id', 'varchar(256)', run['airflow_task_id']),
            ('airflow_try_number', 'integer', run['airflow_try_number']),
            ('airflow_logical_date', 'timestamp', run['airflow_logical_date']),
            ('airflow_log_url', 'varchar(2048)', run['airflow_log_url']),
        ]) -%}
    {%- endfor -%}
    {%- do return(rows) -%}
{% endmacro %}


{#
  The values that all rows of one invocation share, by column name. The environment is read here, when the hook runs, and never
  while parsing: a variable read at parse time would make dbt parse the project again for every Airflow task.
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
    }) -%}
{% endmacro %}
