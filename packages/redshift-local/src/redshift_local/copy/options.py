"""The options of COPY, read from a statement.

https://docs.aws.amazon.com/redshift/latest/dg/r_COPY-parameters.html
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from redshift_local.parse.words import Words
from redshift_local.plan import Refused, unsupported

# Options about storage, statistics and access. They change no row.
_WITHOUT_EFFECT = ("statupdate", "compupdate", "region", "comprows", "readratio", "encoding", "secret_access_key")
_NOT_HERE = ("parquet", "orc", "avro", "shapefile", "fixedwidth", "encrypted", "ssh", "lzop", "zstd", "jsonpaths")


@dataclass
class Options:
    """The data format options of a COPY. Names and defaults are Redshift's.

    https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-format.html
    """

    csv: bool = False
    json: bool = False
    ignore_case: bool = False
    quote: str = '"'
    delimiter: str = ""
    null: str = "\\N"
    compression: str = ""
    manifest: bool = False
    header: int = 0
    max_errors: int = 0
    date_format: str = ""
    time_format: str = ""
    flags: set[str] = field(default_factory=set)


FLAGS = (
    *("emptyasnull", "blanksasnull", "truncatecolumns", "trimblanks", "ignoreblanklines", "fillrecord", "escape"),
    *("removequotes", "noload", "explicit_ids", "roundec", "acceptanydate", "acceptinvchars", "ignoreallerrors"),
)


def authorization(words: Words) -> bool:
    """Read an authorization clause; returns whether it came next."""
    if words.take("iam_role"):
        if not words.take("default"):
            role = words.string()
            if not role.startswith("arn:"):
                raise Refused(f"Invalid IAM role '{role}'", "XX000", "write IAM_ROLE default, or the role's ARN")
        return True
    for word in ("credentials", "access_key_id", "secret_access_key", "session_token"):
        if words.take(word):
            words.take("as")
            words.string()
            return True
    return False


def option(words: Words, options: Options) -> bool:
    """Read one option; returns whether one came next."""

    def text() -> str:
        words.take("as")
        return words.string()

    def number() -> int:
        words.take("as")
        number = words.source()
        if not number.isdecimal():
            raise Refused(f'syntax error at or near "{number}"', "42601")
        return int(number)

    word = words.peek()
    if word in _NOT_HERE:
        raise unsupported(
            f"COPY with {word.upper()}", "load CSV, delimited text or JSON 'auto', packed with GZIP or not"
        )
    if word in FLAGS:
        words.position += 1
        options.flags.add(word)
        if word == "acceptinvchars":
            words.take("as")
            if words.at_string():
                options.flags.add("=" + words.string())
        return True
    if word in _WITHOUT_EFFECT:
        words.position += 1
        words.take("as")
        if words.peek() in ("on", "off", "preset", "true", "false") or words.at_string() or words.peek().isdecimal():
            words.source()
        return True
    if words.take("format"):
        words.take("as")
        return words.peek() in ("csv", "json", "delimiter", *_NOT_HERE)
    if words.take("csv"):
        options.csv = True
        if words.take("quote"):
            options.quote = text()
        return True
    if words.take("json"):
        way = text()
        if way not in ("auto", "auto ignorecase"):
            raise unsupported(f"COPY with JSON '{way}'", "use JSON 'auto', with keys named as the columns")
        options.json, options.ignore_case = True, way != "auto"
        return True
    simple: dict[str, tuple[str, Callable]] = {
        "delimiter": ("delimiter", text),
        "null": ("null", text),
        "ignoreheader": ("header", number),
        "maxerror": ("max_errors", number),
        "dateformat": ("date_format", text),
        "timeformat": ("time_format", text),
        "gzip": ("compression", lambda: "gzip"),
        "bzip2": ("compression", lambda: "bzip2"),
        "manifest": ("manifest", lambda: True),
    }
    if word in simple:
        words.position += 1
        name, read = simple[word]
        setattr(options, name, read())
        return True
    return False
