{# What the audit views share. Each macro gives a SQL expression over the columns of audit_table. #}

{# The run that a row belongs to: the Airflow run, or the invocation itself where dbt was started by hand. #}
{% macro audit_run_key() -%}
    coalesce(airflow_dag_id || '/' || airflow_run_id, invocation_id)
{%- endmacro %}


{# dbt's many words for how a node ended, as four: passed, warned, failed, skipped. #}
{% macro audit_outcome() -%}
    case
        when status in ('success', 'pass', 'no-op') then 'passed'
        when status = 'warn' then 'warned'
        when status = 'skipped' then 'skipped'
        else 'failed'
    end
{%- endmacro %}


{# Seconds between two timestamps, with their fractions. #}
{% macro audit_seconds_between(earlier, later) -%}
    datediff(millisecond, {{ earlier }}, {{ later }}) / 1000.0
{%- endmacro %}
