"""The project's conventions, as rules of dbt-score. Each message says which text to add to which file.

dbt-score calls a rule with each model, source, seed or snapshot of the manifest, by the type of the rule's argument.
Source: https://dbt-score.picnic.tech/create_rules/
"""

import re
from pathlib import PurePosixPath

from dbt_score import Model, RuleViolation, Seed, Snapshot, Source, rule
from dbt_score.models import Evaluable

# The folder of each layer and the prefix of its models. "" allows any name without the prefix of another layer.
LAYERS = {"staging": "stg_", "marts": ""}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_JINJA = re.compile(r"\{[{%#].*?[}%#]\}", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_RELATION = re.compile(r"\b(?:from|join)\s+\"?(\w+)\"?\s*\.\s*\"?(\w+)", re.IGNORECASE)


def _layer(model: Model) -> str:
    parts = PurePosixPath(model.original_file_path).parts
    return parts[1] if len(parts) > 2 else ""


def yaml_path(node: Evaluable) -> str:
    """Return the path of the YAML file of a model, seed or snapshot: beside it, with the same name."""
    return str(PurePosixPath(node.original_file_path).with_suffix(".yml"))


def _named_after_its_file(name: str, file: str) -> bool:
    return bool(_NAME.fullmatch(name)) and PurePosixPath(file).stem == name


def _described(node: Model | Seed | Snapshot | Source) -> RuleViolation | None:
    where = node.original_file_path if isinstance(node, Source) else yaml_path(node)
    if not node.description.strip():
        return RuleViolation(f"has no description; add `description: <one row is …>` to {node.name} in {where}")
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
        "has no tested key, and Redshift does not enforce keys; "
        f"add `data_tests: [unique, not_null]` to the column that is the key in {yaml_path(node)}, "
        "or `unique_combination` to the model if the key has several columns"
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
    """The YAML file of a model is beside it and has the same name."""
    if model.patch_path and model.patch_path.endswith(f"://{yaml_path(model)}"):
        return None
    where = f"is described in {model.patch_path.split('://')[1]}" if model.patch_path else "has no YAML"
    return RuleViolation(f"{where}; its place is {yaml_path(model)}, with `models: [{{name: {model.name}, …}}]`")


@rule
def model_is_keyed(model: Model) -> RuleViolation | None:
    """A model has a key with tests."""
    return _keyed(model)


@rule
def seed_is_keyed(seed: Seed) -> RuleViolation | None:
    """A seed has a key with tests."""
    return _keyed(seed)


@rule
def mart_has_an_enforced_contract(model: Model) -> RuleViolation | None:
    """A mart has an enforced contract with its primary key."""
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
def model_is_granted_to_consumers_if_it_is_public(model: Model) -> RuleViolation | None:
    """A public model, and no other, is granted to the group of its consumers, and has an enforced contract."""
    granted = [name for name in model.config.get("grants", {}).get("select", []) if name.endswith("_consumers")]
    if model.access != "public":
        if not granted:
            return None
        return RuleViolation(f"is granted to {', '.join(granted)}, but it is not public; add `access: public`")
    if not granted:
        return RuleViolation(
            "is public, but nobody is allowed to read it; add to its `config:` "
            "`grants: {select: ['group:<schema of the pipeline>_consumers']}`"
        )
    if not model.config.get("contract", {}).get("enforced"):
        return RuleViolation("is public and has no enforced contract; move it to models/marts/")
    return None


@rule
def model_is_owned(model: Model) -> RuleViolation | None:
    """A model has an owner."""
    return _owned(model)


@rule
def seed_is_owned(seed: Seed) -> RuleViolation | None:
    """A seed has an owner."""
    return _owned(seed)


@rule
def snapshot_is_owned(snapshot: Snapshot) -> RuleViolation | None:
    """A snapshot has an owner."""
    return _owned(snapshot)


@rule
def source_is_owned(source: Source) -> RuleViolation | None:
    """A source has an owner."""
    return None if source.source_meta.get("owner") else _owned(source)


@rule
def source_has_freshness(source: Source) -> RuleViolation | None:
    """A source has freshness limits, unless it is a public model of another project, for which a pipeline can wait."""
    if source.config.get("meta", {}).get("product"):
        return None
    freshness = source.config.get("freshness") or {}
    if any((freshness.get(limit) or {}).get("count") for limit in ("warn_after", "error_after")):
        return None
    return RuleViolation(
        f"has no freshness; add to `config:` of {source.source_name} in {source.original_file_path}: "
        "`loaded_at_field: <column>` and `freshness: {warn_after: {count: 36, period: hour}}`; "
        "or, for a public model of another project, `meta: {product: <project>.<model>}`"
    )


@rule
def source_is_read_by_one_model(source: Source) -> RuleViolation | None:
    """Exactly one staging model reads a source table."""
    readers = [child.name for child in source.children if isinstance(child, Model)]
    if len(readers) == 1:
        return None
    if readers:
        return RuleViolation(f"is read by {', '.join(sorted(readers))}; keep one, and use `ref` to it in the others")
    return RuleViolation(f"has no staging model; type: make new-model NAME=stg_{source.name} LAYER=staging")


@rule
def model_is_in_a_layer(model: Model) -> RuleViolation | None:
    """A model is in the folder of a layer, and its name follows the rules of the layer."""
    layer, name = _layer(model), model.name
    if layer not in LAYERS:
        return RuleViolation(f"is in no layer; move it into {', '.join(f'models/{known}/' for known in LAYERS)}")
    if name == model.package_name:
        return RuleViolation("has the name of the project, so `--select` would select all models; rename its files")
    if not _named_after_its_file(name, model.original_file_path):
        return RuleViolation("must have a name of lower-case letters, digits and underscores; rename its files")
    if not name.startswith(LAYERS[layer]):
        return RuleViolation(f"is in models/{layer}/, so rename it: {LAYERS[layer]}{name}")
    for other, prefix in LAYERS.items():
        if other != layer and prefix and name.startswith(prefix):
            return RuleViolation(f"has the prefix of models/{other}/; move it there, or remove {prefix}")
    return None


@rule
def model_reads_the_layer_below(model: Model) -> RuleViolation | None:
    """A staging model reads one source and nothing else. A mart reads models, never a source."""
    sources = [f"source {parent.selector_name}" for parent in model.parents if isinstance(parent, Source)]
    others = [parent.name for parent in model.parents if not isinstance(parent, Source)]
    if _layer(model) == "marts" and sources:
        return RuleViolation(f"reads {', '.join(sources)}; read it in a staging model, and `ref` that model here")
    if _layer(model) == "staging" and (len(sources) != 1 or others):
        read = ", ".join(sorted(sources + others)) or "nothing"
        return RuleViolation(f"reads {read}; a staging model must read exactly one source; join models in a mart")
    return None


@rule
def model_names_relations_through_dbt(model: Model) -> RuleViolation | None:
    """A model uses `ref` or `source`, so that dbt knows the order and the schema."""
    sql = _COMMENT.sub(" ", _JINJA.sub(" ", model.raw_code))
    if relation := _RELATION.search(sql):
        schema, name = relation.groups()
        return RuleViolation(
            f"reads {schema}.{name} by name; write {{{{ ref('{name}') }}}} or {{{{ source('{schema}', '{name}') }}}}"
        )
    return None
