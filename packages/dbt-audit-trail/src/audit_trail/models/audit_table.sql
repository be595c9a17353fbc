-- Every result of every dbt invocation. The on-run-end hook log_audit_table inserts the rows. This model creates the table, adds
-- the columns of a newer version of the package, deletes rows older than audit_retention_days, and inserts the stored results
-- of invocations that could not write them. It selects no rows itself.
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
{%- do require_materialization('incremental') %}

-- Existing columns are selected with the types they have: dbt would move a column whose type it changes to the end of the table.
{%- set existing_columns = audit_table_columns(this) if execute and is_incremental() else {} %}
{%- set new_columns = audit_columns().items() | rejectattr(0, 'in', existing_columns) | list %}
select
    {{ "existing.*" if existing_columns }}{{ "," if existing_columns and new_columns }}
{% for column, type in new_columns %}
    cast(null as {{ type }}) as {{ column }}{{ "," if not loop.last }}
{% endfor %}
{{ "from " ~ this ~ " as existing" if existing_columns }}
where false
