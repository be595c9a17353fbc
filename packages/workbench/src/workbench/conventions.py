"""The project's conventions, as rules of dbt-score: each is one sentence, and its message says what to type where.

dbt-score calls a rule with each model, source, seed or snapshot of the manifest, by the type of the rule's argument.
Source: https://dbt-score.picnic.tech/create_rules/
"""

import re
from pathlib import PurePosixPath

from dbt_score import Model, RuleViolation, Seed, Snapshot, Source, rule
from dbt_score.models import Evaluable

# Where a model may live, and how its name begins there; `""` is any name that is no other layer's.
LAYERS = {"staging": "stg_", "marts": ""}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_JINJA = re.compile(r"\{[{%#].*?[}%#]\}", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_RELATION = re.compile(r"\b(?:from|join)\s+\"?(\w+)\"?\s*\.\s*\"?(\w+)", re.IGNORECASE)


def _layer(model: Model) -> str:
    parts = PurePosixPath(model.original_file_path).parts
    return parts[1] if len(parts) > 2 else ""


def yaml_path(node: Evaluable) -> str:
    """Where a model's, seed's or snapshot's YAML belongs: beside it, under its name."""
    return str(PurePosixPath(node.original_file_path).with_suffix(".yml"))


def _named_after_its_file(name: str, file: str) -> bool:
    return bool(_NAME.fullmatch(name)) and PurePosixPath(file).stem == name


def _described(node: Model | Seed | Snapshot | Source) -> RuleViolation | None:
    where = node.original_file_path if isinstance(node, Source) else yaml_path(node)
    if not node.description.strip():
        return RuleViolation(f"has no description; add `description: <meaning of one row>` to {node.name} in {where}")
    if missing := [column.name for column in node.columns if not column.description.strip()]:
        return RuleViolation(
            f"has columns without description: {', '.join(missing)}; add `description:` to each in {where}"
        )
    return None


def _owned(node: Model | Seed | Snapshot | Source) -> RuleViolation | None:
    if node.config.get("meta", {}).get("owner") or node.meta.get("owner") or node.config.get("group"):
        return None
    return RuleViolation(f"has no owner; add `config: {{meta: {{owner: <team>}}}}` to {node.name} or its folder")


def _keyed(node: Model | Seed | Snapshot) -> RuleViolation | None:
    for column in node.columns:
        if {"unique", "not_null"} <= {test.type for test in column.tests}:
            return None
    if any(test.type.startswith("unique_combination") for test in node.tests):  # dbt_utils' has a longer name
        return None
    return RuleViolation(
        "has no tested key, and Redshift enforces none; "
        f"add `data_tests: [unique, not_null]` to the column that is the key in {yaml_path(node)}, "
        "or `unique_combination` to the model when it takes several"
    )


@rule
def model_is_described(model: Model) -> RuleViolation | None:
    """A model and its columns are described."""
    return _described(model)


@rule
def seed_is_described(seed: Seed) -> RuleViolation | None:
    """A seed and its columns are described."""
    return _described(seed)


@rule
def snapshot_is_described(snapshot: Snapshot) -> RuleViolation | None:
    """A snapshot and its columns are described."""
    return _described(snapshot)


@rule
def source_is_described(source: Source) -> RuleViolation | None:
    """A source table and its columns are described."""
    return _described(source)


@rule
def model_has_its_own_yaml(model: Model) -> RuleViolation | None:
    """A model's YAML lies beside it, under its name."""
    if model.patch_path and model.patch_path.endswith(f"://{yaml_path(model)}"):
        return None
    where = f"is described in {model.patch_path.split('://')[1]}" if model.patch_path else "has no YAML"
    return RuleViolation(f"{where}; its place is {yaml_path(model)}, with `models: [{{name: {model.name}, …}}]`")


@rule
def model_is_keyed(model: Model) -> RuleViolation | None:
    """A model has a key, and tests that it is one."""
    return _keyed(model)


@rule
def seed_is_keyed(seed: Seed) -> RuleViolation | None:
    """A seed has a key, and tests that it is one."""
    return _keyed(seed)


@rule
def mart_has_an_enforced_contract(model: Model) -> RuleViolation | None:
    """A model that people query has a contract, with its primary key in it."""
    if _layer(model) != "marts":
        return None
    if not model.config.get("contract", {}).get("enforced"):
        return RuleViolation("has no enforced contract; remove `contract` from its config, dbt_project.yml enforces it")
    constraints = [*model.constraints, *(constraint for column in model.columns for constraint in column.constraints)]
    if not any(constraint.type == "primary_key" for constraint in constraints):
        return RuleViolation(
            f"has no primary key in its contract; add `constraints: [{{type: primary_key, columns: [<key>], "
            f"warn_unenforced: false}}]` to the model in {yaml_path(model)}"
        )
    return None


@rule
def model_is_owned(model: Model) -> RuleViolation | None:
    """A model says who answers for it."""
    return _owned(model)


@rule
def seed_is_owned(seed: Seed) -> RuleViolation | None:
    """A seed says who answers for it."""
    return _owned(seed)


@rule
def snapshot_is_owned(snapshot: Snapshot) -> RuleViolation | None:
    """A snapshot says who answers for it."""
    return _owned(snapshot)


@rule
def source_is_owned(source: Source) -> RuleViolation | None:
    """A source says who answers for it."""
    return None if source.source_meta.get("owner") else _owned(source)


@rule
def source_has_freshness(source: Source) -> RuleViolation | None:
    """A source says when its rows are too old."""
    freshness = source.config.get("freshness") or {}
    if any((freshness.get(limit) or {}).get("count") for limit in ("warn_after", "error_after")):
        return None
    return RuleViolation(
        f"has no freshness; add to `config:` of {source.source_name} in {source.original_file_path}: "
        "`loaded_at_field: <column>` and `freshness: {warn_after: {count: 36, period: hour}}`"
    )


@rule
def source_is_read_by_one_model(source: Source) -> RuleViolation | None:
    """A source table is read by one staging model: its description is in one place."""
    readers = [child.name for child in source.children if isinstance(child, Model)]
    if len(readers) == 1:
        return None
    if readers:
        return RuleViolation(f"is read by {', '.join(sorted(readers))}; let one read it, and the others `ref` that one")
    return RuleViolation(f"is read by nothing; type: make new-model NAME=stg_{source.name} LAYER=staging")


@rule
def model_is_in_a_layer(model: Model) -> RuleViolation | None:
    """A model lies in the folder of a layer, named as that layer's are, in lower case."""
    layer, name = _layer(model), model.name
    if layer not in LAYERS:
        return RuleViolation(f"is in no layer; move it into {', '.join(f'models/{known}/' for known in LAYERS)}")
    if name == model.package_name:
        return RuleViolation("has the name of the project, and `--select` of it means all; rename its files")
    if not _named_after_its_file(name, model.original_file_path):
        return RuleViolation("needs a name of lower-case letters, digits and underscores; rename its files")
    if not name.startswith(LAYERS[layer]):
        return RuleViolation(f"lies in models/{layer}/, so its name begins with {LAYERS[layer]}: {LAYERS[layer]}{name}")
    for other, prefix in LAYERS.items():
        if other != layer and prefix and name.startswith(prefix):
            return RuleViolation(f"is named as those in models/{other}/ are; move it there, or drop {prefix}")
    return None


@rule
def model_reads_the_layer_below(model: Model) -> RuleViolation | None:
    """Staging reads one source and nothing else; marts read models, never a source."""
    sources = [f"source {parent.selector_name}" for parent in model.parents if isinstance(parent, Source)]
    others = [parent.name for parent in model.parents if not isinstance(parent, Source)]
    if _layer(model) == "marts" and sources:
        return RuleViolation(f"reads {', '.join(sources)}; read it in a staging model, and `ref` that one here")
    if _layer(model) == "staging" and (len(sources) != 1 or others):
        read = ", ".join(sorted(sources + others)) or "nothing"
        return RuleViolation(f"reads {read}; a staging model reads one source, and marts bring several together")
    return None


@rule
def model_names_relations_through_dbt(model: Model) -> RuleViolation | None:
    """A model names its inputs by `ref` or `source`, so that dbt knows the order and the schema."""
    sql = _COMMENT.sub(" ", _JINJA.sub(" ", model.raw_code))
    if match := _RELATION.search(sql):
        schema, name = match.groups()
        return RuleViolation(
            f"reads {schema}.{name} by name; write {{{{ ref('{name}') }}}} or {{{{ source('{schema}', '{name}') }}}}"
        )
    return None
