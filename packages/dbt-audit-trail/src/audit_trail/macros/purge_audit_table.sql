{#
  Deletes the audit rows of days that are more than `days` days ago. 0 deletes nothing.
  Deletes one day per transaction, so an invocation that inserts rows meanwhile waits for one day's delete at most.

  Runs each time the audit table is built. By hand: dbt run-operation audit_trail.purge_audit_table --args 'days: 90'
#}
{% macro purge_audit_table(days=none) %}
    {%- set days = (var('audit_retention_days') if days is none else days) | int -%}
    {%- if execute and days > 0 and flags.WHICH in ['run', 'build', 'run-operation'] -%}
        {%- set table = this or ref('audit_table') -%}
        {%- set query -%}
            select distinct model_execution_date
            from {{ table }}
            where model_execution_date < dateadd(day, -{{ days }}, current_date)
            order by 1
        {%- endset -%}
        {%- for row in run_query(query) -%}
            {%- do run_query("delete from " ~ table ~ " where model_execution_date = '" ~ row[0] ~ "'") -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}
