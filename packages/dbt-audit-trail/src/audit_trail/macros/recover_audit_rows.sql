{#
  Writes the rows that earlier invocations could not write. Rows that the table already has are not written again. If an invocation
  that was lost has written its rows itself since, the rows that were written for it are deleted.
  The stored results arrive in environment variables, in chunks: Jinja cannot read files, and with other vars dbt would parse the
  project again. Each chunk is JSON: `run`, from audit_run() of the earlier invocation, and `results`, as in run_results.json.

  Runs each time the audit table is built.
#}
{% macro recover_audit_rows() %}
    {%- set to_datetime = modules.datetime.datetime.fromisoformat -%}
    {%- if execute -%}
        {%- do adapter.add_query(audit_trail.delete_replaced_rows(this), auto_begin=false) -%}
    {%- endif -%}
    {%- for number in range(100) if execute and env_var('DBT_AUDIT_KEPT_' ~ number, '') -%}
        {%- set stored = fromjson(env_var('DBT_AUDIT_KEPT_' ~ number)) -%}
        {%- set run = stored.run -%}
        {#- The current release may have other code than the release that ran. -#}
        {%- set is_other_release = run.release_id != (env_var('DBT_RELEASE_ID', '') or none) -%}
        {%- if is_other_release -%}
            {%- do run.update({'node_checksum': none}) -%}
        {%- endif -%}
        {#- Airflow can lose this task, too, and start it again while this dbt is still running. -#}
        {%- do adapter.add_query('begin', auto_begin=false) -%}
        {%- do adapter.add_query('lock ' ~ this.include(database=false), auto_begin=false) -%}
        {#- The invocation is not always known: Airflow can lose a task whose dbt still writes its rows. -#}
        {%- set _, cursor = adapter.add_query(
            'select unique_id from ' ~ this ~ ' where invocation_id = %s or (airflow_dag_id = %s and airflow_run_id = %s'
            ~ ' and airflow_task_id = %s and airflow_try_number = %s)',
            auto_begin=false,
            bindings=[
                run.invocation_id, run.airflow_dag_id or '', run.airflow_run_id or '', run.airflow_task_id or '',
                (run.airflow_try_number or 0) | int
            ]
        ) -%}
        {%- set present = cursor.fetchall() | map(attribute=0) | list -%}
        {%- set results = [] -%}
        {%- for result in stored.results if result.unique_id not in present -%}
            {#- Used only if the graph does not have the node. A load of files brings its node. -#}
            {%- set words = result.unique_id.split('.') -%}
            {%- set name = words[-1] if words[0] == 'source' else words[2] -%}
            {%- set node = dict({'unique_id': result.unique_id, 'resource_type': words[0], 'name': name}, **(result.node or {})) -%}
            {%- set timing = [] -%}
            {%- for step in result.timing if step.started_at and step.completed_at -%}
                {%- do timing.append({
                    'started_at': to_datetime(step.started_at).replace(tzinfo=none),
                    'completed_at': to_datetime(step.completed_at).replace(tzinfo=none),
                }) -%}
            {%- endfor -%}
            {%- do results.append(dict(result, node=node, timing=timing)) -%}
        {%- endfor -%}
        {%- if not results -%}
            {%- do adapter.add_query('commit', auto_begin=false) -%}
        {%- elif audit_trail.insert_audit_rows(this, results, run) -%}
            {%- do log(results | length ~ ' audit rows of invocation ' ~ run.invocation_id ~ ' recovered', info=true) -%}
        {%- else -%}
            {#- The caller would delete the stored results. -#}
            {%- do exceptions.raise_compiler_error('the stored results of earlier runs were not written to ' ~ this) -%}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}


{# SQL that deletes the rows of lost invocations (`lost-…`, from mwaa_pipelines) whose try has rows of a real invocation. #}
{% macro delete_replaced_rows(table) %}
    delete from {{ table }}
    where load_id in (
        select lost.load_id
        from {{ table }} as lost
        inner join {{ table }} as written
            on
                lost.unique_id = written.unique_id
                and lost.airflow_dag_id = written.airflow_dag_id
                and lost.airflow_run_id = written.airflow_run_id
                and lost.airflow_task_id = written.airflow_task_id
                and lost.airflow_try_number = written.airflow_try_number
        where lost.invocation_id like 'lost-%' and written.invocation_id not like 'lost-%'
    )
{% endmacro %}
