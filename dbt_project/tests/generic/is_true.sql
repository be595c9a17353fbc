{# Fails for each row for which `condition` does not hold. Null counts as holding. #}
{% test is_true(model, condition) %}
select *
from {{ model }}
where not ({{ condition }})
{% endtest %}
