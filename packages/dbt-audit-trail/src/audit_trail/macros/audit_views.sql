{# SQL expressions that several audit views use, over the columns of audit_table. #}

{# The run that a row belongs to: the Airflow run, or the invocation if dbt was not started by Airflow. #}
{% macro audit_run_key() -%}
    coalesce(airflow_dag_id || '/' || airflow_run_id, invocation_id)
{%- endmacro %}


{#
  The outcome of a node in one of four words: passed, warned, failed, skipped. A source of severity warn never fails a run: dbt's
  status says only how old it is.
#}
{% macro audit_outcome() -%}
    case
        when status in ('success', 'pass', 'no-op') then 'passed'
        when status = 'warn' or (resource_type = 'source' and severity = 'warn') then 'warned'
        when status = 'skipped' then 'skipped'
        else 'failed'
    end
{%- endmacro %}


{# Seconds between two timestamps, to the millisecond. #}
{% macro audit_seconds_between(earlier, later) -%}
    datediff(millisecond, {{ earlier }}, {{ later }}) / 1000.0
{%- endmacro %}
