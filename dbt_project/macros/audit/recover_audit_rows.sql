{#
  Writes what earlier invocations could not, and what is there already is not written twice. It is handed over, in pieces, by
  dags/mwaa_pipelines/recovery.py, in the environment: Jinja reads no file, and vars would make dbt parse the project again.
  Each piece is JSON: `run`, as audit_run() gave it then, and `results`, as dbt writes them to run_results.json.

  Runs once whenever the audit model runs.
#}
{% macro recover_audit_rows() %}
    {%- set moment = modules.datetime.datetime.fromisoformat -%}
    {%- for number in range(100) if execute and env_var('DBT_AUDIT_KEPT_' ~ number, '') -%}
        {%- set kept = fromjson(env_var('DBT_AUDIT_KEPT_' ~ number)) -%}
        {#- The release that writes the row may hold other code than the one that ran. -#}
        {%- if kept.run.release_id != (env_var('DBT_RELEASE_ID', '') or none) -%}
            {%- do kept.run.update({'node_checksum': none}) -%}
        {%- endif -%}
        {#- By the task's try, too: what Airflow took for lost may have been written, by an invocation that it cannot name. -#}
        {%- set try = kept.run.airflow_dag_id, kept.run.airflow_run_id, kept.run.airflow_task_id, kept.run.airflow_try_number -%}
        {%- set _, cursor = adapter.add_query(
            'select unique_id from ' ~ this ~ ' where invocation_id = %s or (airflow_dag_id = %s and airflow_run_id = %s'
            ~ ' and airflow_task_id = %s and airflow_try_number = %s)',
            auto_begin=false,
            bindings=[kept.run.invocation_id, try[0] or '', try[1] or '', try[2] or '', (try[3] or 0) | int]
        ) -%}
        {%- set present = cursor.fetchall() | map(attribute=0) | list -%}
        {%- set results = [] -%}
        {%- for result in kept.results if result.unique_id not in present -%}
            {#- What the graph says of a node goes first; its name is for one that is gone. -#}
            {%- set words = result.unique_id.split('.') -%}
            {%- set node = {'unique_id': result.unique_id, 'resource_type': words[0], 'name': words[-1] if words[0] == 'source' else words[2]} -%}
            {%- set timing = [] -%}
            {%- for step in result.timing if step.started_at and step.completed_at -%}
                {%- do timing.append({
                    'started_at': moment(step.started_at).replace(tzinfo=none),
                    'completed_at': moment(step.completed_at).replace(tzinfo=none),
                }) -%}
            {%- endfor -%}
            {%- do results.append(dict(result, node=node, timing=timing)) -%}
        {%- endfor -%}
        {%- if results -%}
            {%- do insert_audit_rows(this, results, kept.run) -%}
            {%- do log(results | length ~ ' audit rows of invocation ' ~ kept.run.invocation_id ~ ' recovered', info=true) -%}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}
