"""Checks of the warehouse: connection, secret and login, and what the pipeline's database user can do."""

import json
import re
import shlex
from typing import Any

import redshift_connector
from botocore.exceptions import ClientError
from sqlglot.dialects.redshift import Redshift

from audit_report.redshift import WarehouseError, connect, error_code, quote_identifier
from mwaa_release.airflow_api import AirflowApi
from mwaa_release.doctor.check import Account, Check, Finding, NotCheckedError, Result, count
from mwaa_release.errors import DeployError
from mwaa_release.freshness import login_variables, read_connection
from mwaa_release.secret import read_login

_AUDIT_TABLE = "audit_table"
_DENIED = "42501"
_MISSING = {"42P01", "3F000"}
# https://docs.aws.amazon.com/redshift/latest/dg/r_pg_keywords.html, as sqlglot lists them.
_RESERVED_WORDS = Redshift.Generator.RESERVED_KEYWORDS
_GRANT = "python -m mwaa_release warehouse-user"
_AS_SUPERUSER = "as a superuser: "


# --- logins -----------------------------------------------------------------------------------------------------------


def _connection(account: Account) -> Result:
    conn_id = account.pipeline.redshift_connection_id
    options = account.environment.get("AirflowConfigurationOptions", {})
    as_in_stack = "set the options secrets.backend and secrets.backend_kwargs as infra/environment.yml does"
    if not options.get("secrets.backend", "").endswith(".SecretsManagerBackend"):
        return _in_airflow(account) or Finding("the environment does not look in Secrets Manager", as_in_stack)
    kwargs = options.get("secrets.backend_kwargs") or "{}"
    try:
        # Defaults and comparison as in Airflow's backend.
        backend = {"connections_prefix": "airflow/connections", **json.loads(kwargs)}
    except (ValueError, TypeError):
        return Finding(f"the option secrets.backend_kwargs is {kwargs!r}, which is not a JSON object", as_in_stack)
    pattern = backend.get("connections_lookup_pattern")
    if pattern and not re.match(pattern, conn_id, re.IGNORECASE):
        problem = f"Airflow does not look for {conn_id} in Secrets Manager: connections_lookup_pattern is {pattern!r}"
        return _in_airflow(account) or Finding(problem, as_in_stack)
    name = f"{backend['connections_prefix']}/{conn_id}"
    form = '{"conn_type": "redshift", "host": "<endpoint>", "port": 5439, "schema": "dev"}'
    try:
        connection = read_connection(account.client("secretsmanager"), name)
    except DeployError as error:
        finding = _unreadable_secret(error, name, form)
        return _in_airflow(account) or finding if error.__cause__ else finding
    if missing := [key for key in ("conn_type", "schema") if not connection.get(key)]:
        return Finding(f"secret {name} has no {' and no '.join(missing)}", _put_secret(name, form))
    account.connection, account.connections_prefix = connection, backend["connections_prefix"]
    return f"{name}: {connection['host']}:{connection['port']}"


def _in_airflow(account: Account) -> str | None:
    """Check a connection that was created in Airflow's UI. Return None without such a connection."""
    conn_id = account.pipeline.redshift_connection_id
    airflow = AirflowApi(account.client("mwaa"), account.environment_name)
    try:
        connection = airflow.call("GET", f"/connections/{conn_id}")
    except DeployError:
        # Only an Op of Airflow can read connections. Without that permission, report the finding about Secrets Manager.
        return None
    if not connection or not connection.get("host"):
        return None
    account.connection = connection | {
        "port": connection.get("port") or 5439,
        "extra": json.loads(connection.get("extra") or "{}"),
    }
    return f"{conn_id} in Airflow's database: {connection['host']}:{account.connection['port']}"


def _secret(account: Account) -> Result:
    name = account.pipeline.secret_name
    if not name:
        raise NotCheckedError("the pipeline names no secret (secret_name in dags/pipelines.yml)")
    if role := account.connection["extra"].get("role_arn"):
        raise NotCheckedError(f"only tasks can read it, with the role {role}")
    try:
        username, password = read_login(account.client("secretsmanager"), name)
    except DeployError as error:
        return _unreadable_secret(error, name, _LOGIN)
    if not (isinstance(username, str) and isinstance(password, str) and username and password):
        return Finding(f"secret {name} has an empty username or password", _put_secret(name, _LOGIN))
    account.warehouse_login = login_variables(account.pipeline, account.connection, username, password)
    return f"{name}: user {username}"


_LOGIN = '{"username": "dbt_user", "password": "<password>"}'


def _unreadable_secret(error: DeployError, name: str, form: str) -> Finding:
    cause = error.__cause__
    if isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "ResourceNotFoundException":
        create = f"aws secretsmanager create-secret --name {name} --secret-string {shlex.quote(form)}"
        return Finding(f"secret {name} does not exist", create)
    if cause is not None:
        raise error
    return Finding(str(error), _put_secret(name, form))


def _put_secret(name: str, form: str) -> str:
    return f"aws secretsmanager put-secret-value --secret-id {name} --secret-string {shlex.quote(form)}"


def _warehouse_login(account: Account) -> Result:
    variables = account.warehouse_login
    where = f"{variables['REDSHIFT_HOST']}:{variables['REDSHIFT_PORT']}"
    user = variables["REDSHIFT_USER"]
    try:
        account.warehouse = connect(variables)
    except WarehouseError as error:
        text = str(error).removesuffix(". Check REDSHIFT_*")
        if "password authentication failed" in text or "does not exist" in text:
            return Finding(text, f"create the user with the secret's password: {_GRANT}")
        return Finding(
            text,
            f"run doctor on a machine that reaches {where}; then check the warehouse's security group and its endpoint",
        )
    account.warehouse.autocommit = True
    return f"{user} at {where}, database {variables['REDSHIFT_DATABASE']}"


# --- grants -----------------------------------------------------------------------------------------------------------


def _rows(account: Account, query: str, *values: str) -> tuple[Any, ...]:
    with account.warehouse.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def _target_schemas(account: Account) -> list[str]:
    """Return the target schema and the schemas that models name, in lower case as Redshift keeps them."""
    # The schema of a test is for stored failures.
    nodes = [node for node in account.manifest["nodes"].values() if node["resource_type"] != "test"]
    named = {node["config"]["schema"] for node in nodes if node["config"].get("schema")}
    return [account.pipeline.target_schema.lower(), *sorted(name.lower() for name in named)]


def _sources(account: Account) -> list[tuple[str, str]]:
    sources = account.manifest["sources"].values()
    return sorted({(source["schema"], source["identifier"]) for source in sources})


def _schema_names(account: Account) -> Result:
    schemas = sorted({*_target_schemas(account), *(schema for schema, _ in _sources(account))})
    if reserved := [name for name in schemas if name.lower() in _RESERVED_WORDS]:
        return Finding(
            f"{', '.join(reserved)} is a reserved word of Redshift, so a query without quotes fails",
            "rename the schema: target_schema in dags/pipelines.yml, +schema of models, schema of sources",
        )
    return f"{', '.join(schemas)}: no reserved word"


def _source_tables(account: Account) -> Result:
    tables, problems, schemas = _sources(account), [], set()
    for schema, table in tables:
        name = f"{quote_identifier(schema)}.{quote_identifier(table)}"
        try:
            _rows(account, f"select 1 from {name} limit 0")  # noqa: S608 - quoted
        except redshift_connector.Error as error:
            code = error_code(error)
            if code not in {_DENIED, *_MISSING}:
                raise
            problems.append(f"{schema}.{table} {'cannot be read' if code == _DENIED else 'does not exist'}")
            schemas.add(schema)
    if problems:
        user = account.warehouse_login["REDSHIFT_USER"]
        arguments = " ".join(f"--source-schema {shlex.quote(schema)}" for schema in sorted(schemas))
        return Finding(f"{', '.join(problems)} for {user}", f"load the sources, then: {_GRANT} {arguments}")
    return f"{account.warehouse_login['REDSHIFT_USER']} reads {count(len(tables), 'source')}"


def _target_schema(account: Account) -> Result:
    user = account.warehouse_login["REDSHIFT_USER"]
    query = "select u.usename from pg_namespace n join pg_user u on u.usesysid = n.nspowner where lower(n.nspname) = %s"
    for schema in _target_schemas(account):
        owners = [owner for (owner,) in _rows(account, query, schema)]
        if not owners:
            return Finding(f"schema {schema} does not exist", f"{_GRANT} --target-schema {shlex.quote(schema)}")
        if owners != [user]:
            return Finding(
                f"schema {schema} belongs to {owners[0]}, and dbt needs the owner to replace tables",
                f"{_GRANT} --target-schema {shlex.quote(schema)}",
            )
    ((temporary,),) = _rows(account, "select has_database_privilege(current_database(), 'temp')")
    if not temporary:
        return Finding(f"{user} cannot create temporary tables, which incremental models need", _GRANT)
    return f"{user} owns {', '.join(_target_schemas(account))}"


def _other_schemas(account: Account) -> Result:
    user, own = account.warehouse_login["REDSHIFT_USER"], _target_schemas(account)
    ((creates_schemas,),) = _rows(account, "select has_database_privilege(current_database(), 'create')")
    names = (
        "select nspname from pg_namespace where has_schema_privilege(nspname, 'create') "
        "and nspname <> 'information_schema' and substring(nspname, 1, 3) <> 'pg_' order by nspname"
    )
    others = [name for (name,) in _rows(account, names) if name.lower() not in own]
    places = (["new schemas"] if creates_schemas else []) + others
    if places:
        grantees = f"{quote_identifier(user)}, public"
        objects = [f"schema {quote_identifier(name)}" for name in others]
        if creates_schemas:
            objects.append(f"database {quote_identifier(account.warehouse_login['REDSHIFT_DATABASE'])}")
        revokes = "; ".join(f"revoke create on {name} from {grantees}" for name in objects)
        return Finding(f"{user} can also create tables in {', '.join(places)}", f"{_AS_SUPERUSER}{revokes}")
    return f"{user} can create tables nowhere else"


def _audit_table(account: Account) -> Result:
    user, schema = account.warehouse_login["REDSHIFT_USER"], account.pipeline.target_schema
    name = f"{schema}.{_AUDIT_TABLE}"
    query = (
        "select c.relkind, u.usename from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "join pg_user u on u.usesysid = c.relowner where lower(n.nspname) = %s and c.relname = %s"
    )
    rows = _rows(account, query, schema.lower(), _AUDIT_TABLE)
    if not rows:
        return f"{name} does not exist yet; the first run creates it"
    kind, owner = (value.decode() if isinstance(value, bytes) else str(value) for value in rows[0])
    if kind != "r":
        return Finding(f"{name} is not a table", f"{_AS_SUPERUSER}drop view {name}")
    if owner != user:
        return Finding(
            f"{name} belongs to {owner}, and {user} adds rows and columns to it",
            f"{_AS_SUPERUSER}alter table {name} owner to {user}",
        )
    return f"{name} belongs to {user}"


_SECRET_ACTIONS = ("secretsmanager:GetSecretValue", "kms:Decrypt")
LOGINS = (
    Check("connection", _connection, ("environment",), _SECRET_ACTIONS),
    Check("secret", _secret, ("connection",), _SECRET_ACTIONS),
    Check("warehouse login", _warehouse_login, ("secret",)),
)
GRANTS = (
    Check("schema names", _schema_names, ("live release",)),
    Check("sources", _source_tables, ("warehouse login", "live release")),
    Check("target schema", _target_schema, ("warehouse login", "live release")),
    Check("other schemas", _other_schemas, ("warehouse login", "live release")),
    Check("audit table", _audit_table, ("warehouse login",)),
)
