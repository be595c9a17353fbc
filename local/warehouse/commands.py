"""Statements about users, groups and privileges, rewritten word by word: sqlglot has no tree for them."""

from collections.abc import Callable

from sqlglot.tokens import Token, TokenType

from local.warehouse.login import verifier
from local.warehouse.plan import HELPERS, Plan, Refused, bare, block, identifier, literal, unsupported

# Quoted, and dollar-quoted as dbt writes comments.
_STRINGS = (TokenType.STRING, TokenType.HEREDOC_STRING)


class Words:
    """The tokens of one statement, read from left to right.

    Args:
        text: the whole message, into which the tokens' positions point.
        tokens: one statement's tokens.
    """

    def __init__(self, text: str, tokens: list[Token]) -> None:
        """Stand before the first token."""
        self.text, self.tokens, self.position = text, tokens, 0

    def peek(self, ahead: int = 0) -> str:
        """The next word in lower case, or nothing at the end. Quoted names and strings are never words."""
        where = self.position + ahead
        if where >= len(self.tokens) or self.tokens[where].token_type in (TokenType.IDENTIFIER, *_STRINGS):
            return ""
        return self.tokens[where].text.lower()

    def take(self, *words: str) -> bool:
        """Step over `words` if they come next."""
        if all(self.peek(i) == word for i, word in enumerate(words)):
            self.position += len(words)
            return True
        return False

    @property
    def left(self) -> bool:
        """Whether anything is left to read."""
        return self.position < len(self.tokens)

    def source(self) -> str:
        """Step over one token; returns it as PostgreSQL text."""
        if not self.left:
            raise Refused("syntax error at end of input", "42601")
        token = self.tokens[self.position]
        self.position += 1
        if token.token_type in _STRINGS:
            return literal(token.text)
        if token.token_type == TokenType.IDENTIFIER:
            return identifier(token.text.lower())
        return token.text

    def name(self) -> str:
        """Step over a name; returns it quoted. Redshift folds quoted names to lower case too."""
        if not self.left or self.tokens[self.position].token_type in _STRINGS:
            raise self.error()
        token = self.tokens[self.position]
        self.position += 1
        return identifier(token.text.lower())

    def dotted(self) -> list[str]:
        """Step over a name that may be qualified; returns its quoted parts."""
        parts = [self.name()]
        while self.take("."):
            parts.append(self.name())
        return parts

    def at_string(self) -> bool:
        """Whether a string literal comes next."""
        return self.left and self.tokens[self.position].token_type in _STRINGS

    def string(self) -> str:
        """Step over a string literal; returns its value."""
        if not self.left or self.tokens[self.position].token_type not in _STRINGS:
            raise self.error()
        self.position += 1
        return self.tokens[self.position - 1].text

    def rest(self) -> str:
        """Step over everything that is left; returns it as PostgreSQL text, spaced as it was."""
        out, end = [], None
        while self.left:
            token = self.tokens[self.position]
            if end is not None and token.start > end + 1:
                out.append(" ")
            end = token.end
            out.append(self.source())
        return "".join(out)

    def error(self) -> Refused:
        """A syntax error at the next word."""
        if not self.left:
            return Refused("syntax error at end of input", "42601")
        return Refused(f'syntax error at or near "{self.tokens[self.position].text}"', "42601")


def _user(words: Words, *, create: bool) -> Plan:
    """CREATE USER and ALTER USER. https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html"""
    name = words.name()
    options, after, settings = [], [], []
    words.take("with")
    while words.left:
        if words.take("password", "disable"):
            after.append(f"PERFORM {HELPERS}.set_password({literal(bare(name))}, NULL)")
        elif words.take("password"):
            try:
                kept = verifier(words.string())
            except ValueError as problem:
                raise Refused(str(problem), "22023") from problem
            after.append(f"PERFORM {HELPERS}.set_password({literal(bare(name))}, {literal(kept)})")
        elif words.take("createdb") or words.take("nocreatedb"):
            options.append(words.tokens[words.position - 1].text)
        elif words.take("createuser"):
            options.append("SUPERUSER CREATEROLE")
        elif words.take("nocreateuser"):
            options.append("NOSUPERUSER NOCREATEROLE")
        elif words.take("valid", "until"):
            options.append(f"VALID UNTIL {literal(words.string())}")
        elif words.take("connection", "limit"):
            value = words.source()
            options.append(f"CONNECTION LIMIT {'-1' if value.lower() == 'unlimited' else value}")
        elif create and words.take("in", "group"):
            groups = [words.name()]
            while words.take(","):
                groups.append(words.name())
            after.append(f"GRANT {', '.join(groups)} TO {name}")
        elif not create and words.take("reset", "session", "timeout"):
            after.append(f"PERFORM {literal(name)}::regrole")
        elif words.take("syslog", "access") or words.take("session", "timeout") or words.take("externalid"):
            words.source()
            after.append(f"PERFORM {literal(name)}::regrole")
        elif not create and words.take("rename", "to"):
            return Plan(f"ALTER ROLE {name} RENAME TO {words.name()}", tag="ALTER USER")
        elif not create and (words.peek() in ("set", "reset")):
            settings.append(f"ALTER ROLE {name} {words.rest()}")
        else:
            raise words.error()
    first = f"CREATE ROLE {name} LOGIN {' '.join(options)}" if create else f"ALTER ROLE {name} {' '.join(options)}"
    steps = ([first] if create or options else []) + settings + after
    if not steps:
        raise Refused("syntax error at end of input", "42601")
    return Plan(block(*steps), tag="CREATE USER" if create else "ALTER USER")


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


def _create_role(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_ROLE.html"""
    name = words.name()
    if words.take("externalid"):
        words.source()
    if words.left:
        raise words.error()
    # The comment tells it from a group: see sql/8_activity.sql.
    return Plan(block(f"CREATE ROLE {name} NOLOGIN", f"COMMENT ON ROLE {name} IS 'role'"), tag="CREATE ROLE")


def _alter_role(words: Words) -> Plan:
    name = words.name()
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
    """What follows TO or FROM: GROUP and ROLE in front of a name say nothing to PostgreSQL, where all are roles."""
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


_NOT_GRANTED = ("function", "procedure", "assumerole", "datashare", "external", "language", "model", "copy", "library")


def _privileges(words: Words) -> Plan:
    """GRANT and REVOKE, also those of ALTER DEFAULT PRIVILEGES. https://docs.aws.amazon.com/redshift/latest/dg/r_GRANT.html"""
    out, on = [], False
    while words.left and words.peek() not in ("to", "from"):
        word = words.peek()
        if word in _NOT_GRANTED:
            raise unsupported(f"privileges on a {word}", "grant it on the cluster only")
        if not on and word in ("drop", "alter"):
            raise unsupported(f"the privilege {word.upper()}", "what may be dropped or altered here is the owner's")
        if word == "for" and words.peek(1) in ("tables", "schemas", "functions", "procedures", "languages"):
            raise unsupported("scoped permissions", "grant on all tables in schema, and alter default privileges")
        on = on or word == "on"
        if word == "role" and not on:
            words.position += 1
            on = True
            if words.peek(1) == ":":
                raise unsupported(f"the role {words.peek()}:{words.peek(2)}", "grant the privileges that it stands for")
            out.append(words.name())
            while words.take(",", "role"):
                out += [",", words.name()]
            continue
        out.append(words.source())
    if not words.left:
        raise words.error()
    if not on:
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


def _alter_group(words: Words) -> Plan:
    name = words.name()
    if words.take("rename", "to"):
        return Plan(f"ALTER ROLE {name} RENAME TO {words.name()}", tag="ALTER GROUP")
    verb = "ADD" if words.take("add", "user") else "DROP" if words.take("drop", "user") else ""
    if not verb:
        raise words.error()
    return Plan(f"ALTER GROUP {name} {verb} USER {words.rest()}", tag="ALTER GROUP")


def _create_schema(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_SCHEMA.html"""
    exists = words.take("if", "not", "exists")
    *database, name = [""] if words.peek() == "authorization" else words.dotted()
    owner = words.name() if words.take("authorization") else ""
    name = name or owner
    if words.take("quota"):
        words.rest()
    if words.left:
        raise words.error()
    sql = f"CREATE SCHEMA {'IF NOT EXISTS ' if exists and not owner else ''}{name}"
    if owner:
        sql += f" AUTHORIZATION {owner}"
    if owner and exists:
        # PostgreSQL has no word for both.
        sql = f"IF to_regnamespace({literal(name)}) IS NULL THEN {sql}; END IF"
    elif not database:
        return Plan(sql)
    steps = [f"PERFORM {HELPERS}.this_database({literal(bare(each))})" for each in database]
    return Plan(block(*steps, sql), tag="CREATE SCHEMA")


def _drop_schema(words: Words) -> Plan:
    """https://docs.aws.amazon.com/redshift/latest/dg/r_DROP_SCHEMA.html"""
    exists = "IF EXISTS " if words.take("if", "exists") else ""
    named = [words.dotted()]
    while words.take(","):
        named.append(words.dotted())
    sql = f"DROP SCHEMA {exists}{', '.join(each[-1] for each in named)} {words.rest()}"
    steps = [f"PERFORM {HELPERS}.this_database({literal(bare(each[0]))})" for each in named if len(each) > 1]
    return Plan(block(*steps, sql), tag="DROP SCHEMA") if steps else Plan(sql)


def _alter_schema(words: Words) -> Plan:
    name = words.name()
    if words.take("quota"):
        return Plan("SELECT 1 WHERE false", tag="ALTER SCHEMA")
    for verb in ("rename", "owner"):
        if words.take(verb, "to"):
            return Plan(f"ALTER SCHEMA {name} {verb.upper()} TO {words.name()}")
    raise words.error()


def _syntax_error(words: Words) -> Plan:
    words.position = 1
    raise words.error()


def _alter_owner(words: Words) -> Plan | None:
    """ALTER TABLE … OWNER TO, which sqlglot does not read; nothing for any other ALTER TABLE."""
    start = words.position
    words.take("if", "exists")
    name = ".".join(words.dotted())
    if words.take("owner", "to"):
        return Plan(f"ALTER TABLE {name} OWNER TO {words.name()}")
    if words.take("append", "from"):
        source = ".".join(words.dotted())
        for option in ("ignoreextra", "filltarget"):
            if words.take(option):
                raise unsupported(f"ALTER TABLE APPEND with {option.upper()}", "insert and delete instead")
        move = (f"INSERT INTO {name} SELECT * FROM {source}", f"DELETE FROM {source}")  # noqa: S608 - quoted names
        return Plan(block(*move), tag="ALTER TABLE APPEND")
    words.position = start
    return None


_COMMANDS: dict[tuple[str, ...], Callable[[Words], Plan | None]] = {
    ("create", "user"): lambda words: _user(words, create=True),
    ("alter", "user"): lambda words: _user(words, create=False),
    ("drop", "user"): lambda words: _drop_roles(words, "DROP USER"),
    ("create", "group"): _create_group,
    ("alter", "group"): _alter_group,
    ("drop", "group"): lambda words: _drop_roles(words, "DROP GROUP"),
    ("create", "role"): _create_role,
    ("alter", "role"): _alter_role,
    ("drop", "role"): _drop_role,
    ("alter", "default", "privileges"): _default_privileges,
    ("create", "schema"): _create_schema,
    ("alter", "schema"): _alter_schema,
    ("drop", "schema"): _drop_schema,
    ("alter", "table"): _alter_owner,
    ("alter", "view"): _alter_owner,
    ("create", "domain"): _syntax_error,
    ("create", "extension"): _syntax_error,
    ("grant",): lambda words: Plan(f"GRANT {_privileges(words).sql}"),
    ("revoke",): lambda words: Plan(f"REVOKE {_privileges(words).sql}"),
}


def command(words: Words) -> Plan | None:
    """Translate the statement if it is one of these commands."""
    for start, handle in _COMMANDS.items():
        if words.take(*start):
            if plan := handle(words):
                return plan
            words.position = 0
    return None
