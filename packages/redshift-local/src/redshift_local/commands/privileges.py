"""Groups, roles and privileges."""

from collections.abc import Callable

from redshift_local.parse.words import Words
from redshift_local.plan import Plan, block, literal, unsupported

_NOT_GRANTED = ("procedure", "assumerole", "datashare", "external", "language", "model", "copy", "library")


def _create_group(words: Words) -> Plan:
    name = words.name()
    steps = [f"CREATE ROLE {name} NOLOGIN"]
    words.take("with")
    if words.take("user"):
        users = [words.name()]
        while words.take(","):
            users.append(words.name())
        steps.append(f"GRANT {name} TO {', '.join(users)}")
    if words.left:
        raise words.error()
    return Plan(block(*steps), tag="CREATE GROUP")


def _drop_roles(words: Words, tag: str) -> Plan:
    exists = "IF EXISTS " if words.take("if", "exists") else ""
    return Plan(f"DROP ROLE {exists}{words.rest()}", tag=tag)


def _alter_group(words: Words) -> Plan:
    name = words.name()
    if words.take("rename", "to"):
        return Plan(f"ALTER ROLE {name} RENAME TO {words.name()}", tag="ALTER GROUP")
    verb = "ADD" if words.take("add", "user") else "DROP" if words.take("drop", "user") else ""
    if not verb:
        raise words.error()
    return Plan(f"ALTER GROUP {name} {verb} USER {words.rest()}", tag="ALTER GROUP")


def _create_role(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_ROLE.html"""
    name = words.name()
    if words.take("externalid"):
        words.source()
    if words.left:
        raise words.error()
    # The comment distinguishes a role from a group: see sql/8_activity.sql.
    return Plan(block(f"CREATE ROLE {name} NOLOGIN", f"COMMENT ON ROLE {name} IS 'role'"), tag="CREATE ROLE")


def _alter_role(words: Words) -> Plan:
    name = words.name()
    words.take("with")
    if words.take("rename", "to"):
        return Plan(f"ALTER ROLE {name} RENAME TO {words.name()}", tag="ALTER ROLE")
    if words.take("owner", "to") or words.take("externalid", "to"):
        words.source()
        return Plan(block(f"PERFORM {literal(name)}::regrole"), tag="ALTER ROLE")
    raise words.error()


def _drop_role(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_DROP_ROLE.html"""
    name = words.name()
    steps = [f"DROP OWNED BY {name}"] if words.take("force") else []
    words.take("restrict")
    if words.left:
        raise words.error()
    return Plan(block(*steps, f"DROP ROLE {name}"), tag="DROP ROLE")


def _grantees(words: Words) -> str:
    """Read the names after TO or FROM, without GROUP and ROLE: all of them are roles in PostgreSQL."""
    out, end = [], None
    while words.left:
        if words.peek() in ("iam_role", "iam", "namespace", "account"):
            raise unsupported(f"privileges of an {words.peek().upper()}", "grant it on the cluster only")
        if words.peek() in ("group", "role") and words.peek(1) != "," and words.position + 1 < len(words.tokens):
            words.position += 1
        token = words.tokens[words.position]
        if end is not None and token.start > end + 1:
            out.append(" ")
        end = token.end
        out.append(words.source())
    return "".join(out)


def _role(words: Words) -> str:
    name = words.name()
    if words.take(":") or name.startswith('"sys:'):
        role = name.strip('"').removeprefix("sys:") if name != '"sys"' else words.peek()
        raise unsupported(f"the role sys:{role}", "grant the privileges that it stands for")
    return name


def _privileges(words: Words) -> Plan:
    """GRANT and REVOKE, also those of ALTER DEFAULT PRIVILEGES. https://docs.aws.amazon.com/redshift/latest/dg/r_GRANT.html"""
    out, on = [], False
    while words.left and words.peek() not in ("to", "from"):
        word = words.peek()
        if word in _NOT_GRANTED:
            raise unsupported(f"privileges on a {word}", "grant it on the cluster only")
        if not on and word in ("drop", "alter"):
            raise unsupported(f"the privilege {word.upper()}", "only the owner can drop or alter it here")
        if word == "for" and words.peek(1) in ("tables", "schemas", "functions", "procedures", "languages"):
            raise unsupported("scoped permissions", "grant on all tables in schema, and alter default privileges")
        on = on or word == "on"
        if word == "role" and not on:
            words.position += 1
            on = True
            out.append(_role(words))
            while words.take(",", "role"):
                out += [",", _role(words)]
            continue
        out.append(words.source())
    if not words.left:
        raise words.error()
    plain = " ".join(out).removeprefix("ADMIN OPTION FOR ").split(" , ")
    if not on and any(
        " " in privilege or privilege.lower() in ("analyze", "vacuum", "cancel", "truncate") for privilege in plain
    ):
        raise unsupported(f"the system permission {' '.join(out).upper()}", "grant it on the cluster only")
    out.append(words.source())
    # No blanks inside a dotted name.
    text = " ".join(out).replace(" . ", ".")
    return Plan(f"{text} {_grantees(words)}")


def _default_privileges(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_DEFAULT_PRIVILEGES.html"""
    out = "ALTER DEFAULT PRIVILEGES"
    if words.take("for", "user") or words.take("for", "role"):
        out += f" FOR ROLE {words.name()}"
        while words.take(","):
            out += f", {words.name()}"
    if words.take("in", "schema"):
        out += f" IN SCHEMA {words.name()}"
        while words.take(","):
            out += f", {words.name()}"
    return Plan(f"{out} {_privileges(words).sql}")


COMMANDS: dict[tuple[str, ...], Callable[[Words], Plan]] = {
    ("drop", "user"): lambda words: _drop_roles(words, "DROP USER"),
    ("create", "group"): _create_group,
    ("alter", "group"): _alter_group,
    ("drop", "group"): lambda words: _drop_roles(words, "DROP GROUP"),
    ("create", "role"): _create_role,
    ("alter", "role"): _alter_role,
    ("drop", "role"): _drop_role,
    ("alter", "default", "privileges"): _default_privileges,
    ("grant",): lambda words: Plan(f"GRANT {_privileges(words).sql}"),
    ("revoke",): lambda words: Plan(f"REVOKE {_privileges(words).sql}"),
}
