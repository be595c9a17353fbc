{#
  The on-run-end hook: appends one row to audit_table for each result of this invocation, or fails the invocation.
  It logs `audit_recorded` after it has written the rows; begin_audit() logs `audit_run` before anything runs. A dbt log with the
  first word and without the second belongs to an invocation whose rows are not written.
#}
{% macro log_audit_table(results) %}
    {#- Outside `execute`: dbt records while parsing which models a hook refers to. -#}
    {%- set table = ref('audit_table') -%}
    {#- dbt skips begin_audit() if an on-run-start hook of the project failed before it. -#}
    {%- do audit_trail.begin_audit() -%}
    {%- if execute and results and audit_trail.is_audited() -%}
        {%- if audit_trail.insert_audit_rows(table, results, audit_trail.audit_run()) -%}
            {%- do log('audit_recorded') -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{# The on-run-start hook: logs the values that all rows of this invocation share, for the case that dbt is killed. #}
{% macro begin_audit() %}
    {%- if execute and audit_trail.is_audited() -%}
        {%- do log('audit_run ' ~ tojson(audit_trail.audit_run())) -%}
    {%- endif -%}
{% endmacro %}


{# Whether this invocation writes audit rows. `compile`, `docs generate` and other commands run the hooks, but build nothing. #}
{% macro is_audited() %}
    {%- set audited_commands = ['build', 'run', 'test', 'seed', 'snapshot', 'freshness', 'clone', 'retry'] -%}
    {%- do return(flags.WHICH in audited_commands and var('audit_enabled')) -%}
{% endmacro %}


{#
  Appends one row to `table` for each result, with three statements: a query for the table's columns, one INSERT, a commit.

  Every value is bound, so no value becomes SQL. The rows travel as JSON, so the statement is as short for 5,000 rows as for one:
  dbt-redshift splits each statement into words before it sends it, which takes seconds for a long VALUES list. The commit is
  needed if an earlier statement left a transaction open, because dbt rolls that back when it closes the connection.

  Returns whether the rows were written. They are not if the user cannot write to the table and var audit_failure is `warn`.
#}
{% macro insert_audit_rows(table, results, run) %}
    {%- set table_widths = audit_trail.audit_table_columns(table) -%}
    {%- if not table_widths -%}
        {%- set problem = results | length ~ " results were not recorded: table " ~ table ~ " does not exist, or user " ~ target.user
            ~ " has no INSERT permission on it. Create the table: dbt run --select audit_table. "
            ~ "To run without an audit trail: --vars 'audit_enabled: false'." -%}
        {%- if var('audit_failure') == 'warn' -%}
            {%- do exceptions.warn(problem) -%}
            {%- do return(false) -%}
        {%- endif -%}
        {%- do exceptions.raise_compiler_error(problem) -%}
    {%- endif -%}

    {%- set names, expressions, shared_values, widths, missing = [], [], [], {}, [] -%}
    {%- for column, type in audit_trail.audit_columns().items() -%}
        {%- if column not in table_widths -%}
            {%- do missing.append(column) -%}
        {%- else -%}
            {%- set declared = type.split('(')[1].rstrip(')') | int if type.startswith('varchar') else none -%}
            {%- set width = [declared, table_widths[column] or declared] | min if declared else none -%}
            {%- if column not in run -%}
                {%- do names.append(column) -%}
                {%- do expressions.append(audit_trail.audit_value('entry.' ~ column, type)) -%}
                {%- do widths.update({column: width}) -%}
            {%- elif run[column] is not none -%}
                {%- do names.append(column) -%}
                {%- do expressions.append('cast(%s as ' ~ type ~ ')') -%}
                {%- do shared_values.append(audit_trail.cut_audit_text(run[column] | string, width or 64)) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if missing -%}
        {%- do exceptions.warn(
            "Table " ~ table ~ " has no column " ~ missing | join(', ') ~ ", so these values were not recorded. "
            ~ "Add the columns: dbt run --select audit_table"
        ) -%}
    {%- endif -%}

    {#- Redshift's limit is 65,535 bytes for a VARCHAR value and 16 MB for a statement. -#}
    {%- for chunks in audit_trail.audit_chunks(audit_trail.parse_dbt_results(results, run, widths)) | batch(200) -%}
        {%- set insert -%}
            insert into {{ table }} ({{ names | join(', ') }})
            select {{ expressions | join(', ') }}
            from (
                select json_parse(texts.chunk) as entries
                from ({{ (['select cast(%s as varchar(65535)) as chunk'] * chunks | length) | join(' union all ') }}) as texts
            ) as documents, documents.entries as entry
        {%- endset -%}
        {%- do adapter.add_query(insert, auto_begin=false, bindings=shared_values + chunks, abridge_sql_log=true) -%}
    {%- endfor -%}
    {%- do adapter.add_query('commit', auto_begin=false) -%}
    {%- do return(true) -%}
{% endmacro %}


{#
  SQL that casts a value of a SUPER document to the type of its column. A text is cast to the longest VARCHAR, because a cast to
  a shorter one could return null; parse_dbt_results() has cut it already.
#}
{% macro audit_value(value, type) -%}
    {%- if type.startswith('varchar') -%}
        cast({{ value }} as varchar(65535))
    {%- elif type == 'timestamp' -%}
        cast(cast({{ value }} as varchar(64)) as timestamp)
    {%- else -%}
        cast({{ value }} as {{ type }})
    {%- endif -%}
{%- endmacro %}


{# JSON arrays of at most 65,535 bytes that together hold all rows, in their order. #}
{% macro audit_chunks(rows) %}
    {%- set chunks, chunk = [], namespace(rows=[], bytes=1) -%}
    {%- for row in rows -%}
        {%- set bytes = row.encode('utf-8') | length + 1 -%}
        {%- if chunk.rows and chunk.bytes + bytes > 65535 -%}
            {%- do chunks.append('[' ~ chunk.rows | join(',') ~ ']') -%}
            {%- set chunk.rows, chunk.bytes = [], 1 -%}
        {%- endif -%}
        {%- do chunk.rows.append(row) -%}
        {%- set chunk.bytes = chunk.bytes + bytes -%}
    {%- endfor -%}
    {%- do return(chunks + ['[' ~ chunk.rows | join(',') ~ ']']) -%}
{% endmacro %}


{#
  {column: width in bytes, or none for a column that is not text} of a table. Empty if the table does not exist or the user has
  no INSERT permission on it.
#}
{% macro audit_table_columns(table) %}
    {%- set query -%}
        select
            column_name,
            character_maximum_length,
            has_table_privilege('"' || table_schema || '"."' || table_name || '"', 'insert')
        from information_schema.columns
        where lower(table_schema) = %s and lower(table_name) = %s
    {%- endset -%}
    {%- set _, cursor = adapter.add_query(
        query, auto_begin=false, bindings=[table.schema | lower, table.identifier | lower]
    ) -%}
    {%- set columns = {} -%}
    {%- for name, width, can_insert in cursor.fetchall() if can_insert -%}
        {%- do columns.update({name: width}) -%}
    {%- endfor -%}
    {%- do return(columns) -%}
{% endmacro %}
