{#
  One JSON object for each result: its values of the columns that rows of an invocation do not share. Returns a list of texts.

  results: `results` of an on-run-end hook, or stored results from recover_audit_rows().
  run: from audit_run().
  widths: {column: width in bytes, or none for a column that is not text} of the columns to fill.

  Runs for thousands of results in dbt's Jinja sandbox, where attributes and calls are slow and dictionary items are fast.
#}
{% macro parse_dbt_results(results, run, widths) %}
    {%- set nodes, sources, exposures = graph['nodes'], graph['sources'], graph['exposures'] -%}
    {%- set second = modules.datetime.timedelta(seconds=1) -%}
    {#- Only invocations since this version have it. -#}
    {%- set source_severity = run['source_severity'] or 'error' -%}
    {%- set rows = [] -%}
    {%- set add = rows.append -%}
    {%- for result in results -%}
        {%- set unique_id = result.node.unique_id -%}
        {%- set node = nodes[unique_id] or sources[unique_id] or exposures[unique_id] or result.node -%}
        {%- set kind = node['resource_type'] or none -%}
        {%- set config = node['config'] or {} -%}
        {%- set owner = (config['meta'] or {})['owner'] -%}
        {%- set response = result.adapter_response or {} -%}
        {%- set rows_affected, query_id = response['rows_affected'], response['query_id'] -%}
        {#- Steps `compile` and `execute`. A node that fails to compile has no `execute`; an interrupted one has no end. -#}
        {%- set timing = result.timing or [{}] -%}
        {%- set began, compiled = timing[0].started_at or none, timing[0].completed_at or none -%}
        {%- set ran, ended = (timing[1].started_at, timing[1].completed_at) if timing[1] else (none, compiled) -%}
        {%- set severity = (config['severity'] or '') | lower if kind in ('test', 'unit_test') else source_severity if kind == 'source' -%}
        {%- set row = {
            'load_id': run['invocation_id'] ~ '.' ~ unique_id,
            'database_name': node['database'] or none,
            'schema_name': node['schema'] or none,
            'name': node['name'] | default(none),
            'resource_type': kind ~ '' if kind else none,
            'status': result.status ~ '',
            'execution_time': result.execution_time | default(none),
            'rows_affected': none if rows_affected is undefined or rows_affected == -1 else rows_affected,
            'unique_id': unique_id,
            'materialization': config['materialized'] or none,
            'relation_name': node['relation_name'] or none,
            'message': result.message | default(none),
            'failures': result.failures | default(none),
            'severity': severity ~ '' if severity else none,
            'started_at': began ~ '' if began else none,
            'completed_at': ended ~ '' if ended else none,
            'compile_seconds': (compiled - began) / second if compiled else none,
            'execute_seconds': (ended - ran) / second if ran and ended else none,
            'thread_id': result.thread_id | default(none),
            'query_id': query_id ~ '' if query_id else none,
            'node_checksum': (node['checksum'] or {})['checksum'] or none,
            'owner': owner ~ '' if owner else none,
            'tags': tojson(node['tags']) if node['tags'] else none,
            'depends_on': tojson(node['depends_on']['nodes'] or []) if node['depends_on'] else none,
            'source_max_loaded_at': result.max_loaded_at ~ '' if kind == 'source' and result.max_loaded_at else none,
            'bytes_loaded': response['bytes_loaded'] | default(none),
        } -%}
        {#- JSON writes control characters and characters beyond ASCII as \u. Nearly no row has them, or a text that is too long. -#}
        {%- set text = tojson(row) -%}
        {%- set long_columns = [] -%}
        {%- for column, width in widths.items() if width and row[column] and row[column] | length > width -%}
            {%- do long_columns.append(column) -%}
        {%- endfor -%}
        {%- do add(audit_trail.clean_audit_row(row, widths) if long_columns or '\\u' in text or text | length > 65000 else text) -%}
    {%- endfor -%}
    {%- do return(rows) -%}
{% endmacro %}


{# A row as JSON that Redshift can read and store: texts cut to the width of their columns, and written as they are. #}
{% macro clean_audit_row(row, widths) %}
    {%- set escapes = {8: '\\b', 9: '\\t', 10: '\\n', 12: '\\f', 13: '\\r', 34: '\\"', 92: '\\\\'} -%}
    {%- set pairs = [] -%}
    {%- for column, value in row.items() if column in widths and value is not none -%}
        {%- set value = tojson(value) if not widths[column] else
            '"' ~ audit_trail.cut_audit_text(value, widths[column], column == 'load_id').translate(escapes) ~ '"' -%}
        {%- do pairs.append('"' ~ column ~ '": ' ~ value) -%}
    {%- endfor -%}
    {%- do return('{' ~ pairs | join(', ') ~ '}') -%}
{% endmacro %}


{#
  Text that fits into `width` bytes, cut between characters. Control characters without a short form in JSON are removed: Redshift
  stores no NUL, and each of the others takes six bytes. A key that is cut ends with a hash of the full key, so it stays unique.
#}
{% macro cut_audit_text(text, width, is_key=false) %}
    {%- set control_characters = {} -%}
    {%- for code in range(32) if code not in (8, 9, 10, 12, 13) -%}
        {%- do control_characters.update({code: none}) -%}
    {%- endfor -%}
    {%- set stored = text.translate(control_characters).encode('utf-8', 'replace') -%}
    {%- if stored | length > width -%}
        {%- set ending = ('.' ~ local_md5(stored.decode())).encode() if is_key else ''.encode() -%}
        {%- set stored = stored[:width - ending | length].decode('utf-8', 'ignore').encode() + ending -%}
    {%- endif -%}
    {%- do return(stored.decode()) -%}
{% endmacro %}
