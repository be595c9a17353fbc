"""The account, warehouse and attention that a new dbt project needs: commands, SQL and warnings."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from audit_report.redshift import quote_identifier
from mwaa_pipelines.settings import Pipeline
from mwaa_release.manifest import schemas

_AUDIT_PACKAGE = "audit_trail"


def warnings_of(manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    """Return a message for each thing to check before the first run."""
    own = [node for node in manifest["nodes"].values() if node["package_name"] != _AUDIT_PACKAGE]
    warnings = []
    if variables := entry.get("env"):
        warnings.append(
            f"env_var() without a default: set {', '.join(variables)} in `env:` of the pipeline, and secrets in "
            "`secret_env:`"
        )
    seeds = {(node["schema"], node["alias"]): node["name"] for node in own if node["resource_type"] == "seed"}
    relations = {(source["schema"], source["identifier"]) for source in manifest["sources"].values()}
    if tables := sorted(".".join(relation) for relation in relations - set(seeds)):
        listed = ", ".join(tables[:5]) + (f" and {len(tables) - 5} more" if len(tables) > 5 else "")
        warnings.append(f"sources must exist before the first run, on this machine as well: {listed}")
    schema = entry["target_schema"]
    if any(name == schema for name, _ in relations - set(seeds)):
        warnings.append(
            f"the pipeline would build in the schema of its sources, {schema}. To choose another, undo this and add "
            f"SCHEMA=<name> to the command"
        )
    if read := seeds_read_as_sources(manifest):
        source, seed = min(read.items())
        others = f", and {len(read) - 1} more" if len(read) > 1 else ""
        warnings.append(
            f"the source {source} is the seed {seed}{others}. dbt does not build the seed before the models that read "
            f"the source: replace the source in them by ref('{seed}')"
        )
    databases = {source["database"] for source in manifest["sources"].values()} - {entry["target_database"]}
    if databases:
        warnings.append(
            f"sources in other databases: {', '.join(sorted(databases))}. Redshift must be able to read them"
        )
    if hooks := sorted({node["name"] for node in own if node["resource_type"] == "operation"}):
        warnings.append(f"each dbt process of the pipeline runs these hooks, also a retry: {', '.join(hooks)}")
    names = Counter(node["name"] for node in own if node["resource_type"] in {"model", "seed", "snapshot"})
    if twice := sorted(name for name, count in names.items() if count > 1):
        warnings.append(f"several packages have a model of this name, and tasks need unique names: {', '.join(twice)}")
    return warnings


def seeds_read_as_sources(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the seeds that nodes read as sources, by the names of the source and its table, such as shop.orders."""
    nodes = manifest["nodes"].values()
    seeds = {(node["schema"], node["alias"]): node["name"] for node in nodes if node["resource_type"] == "seed"}
    parents = {parent for node in nodes for parent in node.get("depends_on", {}).get("nodes", ())}
    return {
        f"{source['source_name']}.{source['name']}": seeds[relation]
        for unique_id, source in manifest["sources"].items()
        if unique_id in parents and (relation := (source["schema"], source["identifier"])) in seeds
    }


def stack_command(entry: Mapping[str, Any]) -> str:
    """Return the command that creates the secret and the connection of a pipeline."""
    parameters = {"DbtUser": f"{entry['project_name']}_user", "SecretName": entry["secret_name"]}
    parameters |= {"ConnectionId": entry["redshift_connection_id"], "Database": entry["target_database"]}
    stack = f'"$NAME-{entry["project_name"]}-credentials"'
    return (
        f"aws cloudformation deploy --stack-name {stack} --template-file infra/credentials.yml --parameter-overrides "
        f"KeyArn=… Host=… {' '.join(f'{name}={shlex.quote(value)}' for name, value in parameters.items())}"
    )


def grants_for(manifest: Mapping[str, Any], entry: Mapping[str, Any], others: Iterable[Pipeline]) -> list[str]:
    """Return the command that creates the database user, and the SQL for schemas that it cannot create."""
    sources, built = (names - {entry["target_schema"]} for names in schemas(manifest))
    public = {pipeline.target_schema for pipeline in others}
    command = ["deploy", "warehouse-user", "--secret-name", entry["secret_name"]]
    for schema in sorted(sources - built):
        command += ["--public-schema" if schema in public else "--source-schema", schema]
    command += ["--target-schema", entry["target_schema"]]
    user = f"<username of {entry['secret_name']}>"
    return [
        shlex.join(command),
        *(f"create schema {quote_identifier(schema)} authorization {user};" for schema in sorted(built)),
    ]
