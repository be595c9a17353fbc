"""The types of single settings, each with its rule and a message in plain words."""

import re
from collections.abc import Callable
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from croniter import croniter
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

# Before the name of an asset that no pipeline of the file updates.
EXTERNAL = "external:"

# Airflow's rule for DAG ids. It is also safe as a folder name.
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,200}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_$\-]{0,126}$")]
AssetName = Annotated[str, StringConstraints(pattern=rf"^(?:{EXTERNAL})?[A-Za-z0-9_.\-]{{1,200}}$")]
EnvironmentVariable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

# dbt checks selectors when a release is built. They must not look like an option of dbt or a template of Airflow.
# https://docs.getdbt.com/reference/node-selection/syntax
SELECTOR = r"^[^\s{}\-][^\s{}]*$"
Selector = Annotated[str, StringConstraints(pattern=SELECTOR)]


def _cron(text: str) -> str:
    # croniter also accepts Airflow's presets, such as @daily.
    if not croniter.is_valid(text):
        raise ValueError("must be a cron expression of five fields, such as '0 6 * * *', or a list of assets")
    return text


def _schedule(value: Any) -> Any:
    # Without this check, pydantic reports one error for each type of the union.
    if not isinstance(value, str | list | tuple | None):
        # pydantic turns only a ValueError into a ValidationError.
        raise ValueError("must be a cron expression, a list of assets, or null")  # noqa: TRY004
    return value


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, LookupError, OSError):
        raise ValueError("must be a time zone of the IANA database, such as Europe/Berlin") from None
    return text


def _matches(pattern: str, rule: str) -> Callable[[str], str]:
    """Return a check with a message in plain words. pydantic's own message shows the pattern."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(rule)
        return text

    return check


# Redshift folds names to lower case.
_TABLE = r"[a-z_][a-z0-9_$]{0,126}\.[a-z_][a-z0-9_$]{0,126}"
_PREFIX = r"[^/\x00].{0,999}(?<=/)"
_BUCKET = r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]"
_ROLE = r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+?"
_ROLES = rf"default|{_ROLE}(?:,{_ROLE})*"

Table = Annotated[
    str, AfterValidator(_matches(_TABLE, "must be a schema and a table in lower case, such as landing.orders"))
]
Prefix = Annotated[
    str, AfterValidator(_matches(_PREFIX, "must be the beginning of keys, and end with a slash, such as shop/orders/"))
]
Bucket = Annotated[
    str, AfterValidator(_matches(_BUCKET, "must be the name of a bucket, without s3:// and without a folder"))
]
CopyRole = Annotated[
    str, AfterValidator(_matches(_ROLES, "must be default, or one or more ARNs of IAM roles, joined by commas"))
]
WebAddress = Annotated[
    str, AfterValidator(_matches(r"https?://[^\s()<>]+", "must be a web address, such as https://example.com/report"))
]
Delimiter = Annotated[str, AfterValidator(_matches(r"[\x20-\x7e\t]", "must be one ASCII character"))]

Schedule = Annotated[
    Annotated[str, AfterValidator(_cron)] | Annotated[tuple[AssetName, ...], Field(min_length=1)] | None,
    BeforeValidator(_schedule),
]
TimeZone = Annotated[str, AfterValidator(_timezone)]
