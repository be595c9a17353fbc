-- Every result of every dbt invocation. The hook log_audit_table fills it; this model makes the table, adds columns that a
-- newer version of the project brings, deletes what is older than audit_retention_days, and writes what earlier invocations
-- could not. It selects no rows itself.
{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='append_new_columns',
        full_refresh=false,
        tags=['audit'],
        dist='even',
        sort='model_execution_date',
        post_hook=[
            {'sql': '{{ purge_audit_table() }}', 'transaction': false},
            {'sql': '{{ recover_audit_rows() }}', 'transaction': false},
        ],
    )
}}

-- What the table has is selected as it is: dbt would move a column whose type it widens to the end of the table.
{%- set present = audit_table_columns(this) if execute and is_incremental() else {} %}
{%- set wanted = audit_columns()[0] | rejectattr(0, 'in', present) | list %}
select
    {{ "present.*" if present }}{{ "," if present and wanted }}
{% for name, type, _ in wanted %}
    cast(null as {{ type }}) as {{ name }}{{ "," if not loop.last }}
{% endfor %}
{{ "from " ~ this ~ " as present" if present }}
where false
