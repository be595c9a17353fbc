{% macro nasty_text() %}
    {%- do return("it's \\ a \\' 'quoted\\' \"text\"; drop table x; -- $$ $1 %s %(a)s {{ 1 }} {% raw %}\n\ttab /* 🛩️ é \x00 end\\") -%}
{% endmacro %}

{# Writes one audit row for each of `texts`, a JSON list, as the hook would for results with these messages. #}
{% macro write_texts(texts) %}
    {%- set results = [] -%}
    {%- for text in fromjson(texts) -%}
        {%- do results.append({
            'node': {'unique_id': loop.index0 | string, 'name': text}, 'message': text, 'status': 'success', 'timing': [], 'adapter_response': {},
            'execution_time': 0, 'failures': none, 'thread_id': none
        }) -%}
    {%- endfor -%}
    {%- do audit_trail.insert_audit_rows(ref('audit_table'), results, audit_trail.audit_run()) -%}
{% endmacro %}
