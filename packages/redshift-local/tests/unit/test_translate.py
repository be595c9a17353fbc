"""Translation, messages and passwords, without a server."""

import hashlib
import re
import struct
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redshift_local.protocol import login, wire
from redshift_local.translate.longtext import rows_of
from redshift_local.translate.translator import translate, translate_long

CORPUS = Path(__file__).parents[1] / "integration" / "corpus"


def sql(text: str) -> str:
    [plan] = translate(text)
    assert not plan.refused, plan.sql
    return plan.sql


@pytest.mark.parametrize(
    ("redshift", "postgres"),
    [
        (r"select 'it\'s', 'a\\b'", r"SELECT 'it''s', 'a\b'"),
        ("select $1, $2::int where a = '$1'", "SELECT $1, CAST($2 AS INT) WHERE a = '$1'"),
        (
            "create table t (a int encode zstd) diststyle all sortkey (a) backup no",
            "DO $b$BEGIN\nCREATE TABLE t (a INT);\nPERFORM pg_redshift.record_storage("
            "'t', 'ALL', '', ARRAY['a']::text[], False, ARRAY['a', 'zstd']::text[]);\nEND$b$",
        ),
        (
            "create table t (a text, b varchar(max), c decimal)",
            "CREATE TABLE t (a VARCHAR(256), b VARCHAR(65535), c DECIMAL(18, 0))",
        ),
        ("select top 3 a from t", "SELECT a FROM t LIMIT 3"),
        ("grant select on t to group g, role r, u", "GRANT select on t to g, r, u"),
        ("set query_group to 'x'", "SET pg_redshift.query_group TO 'x'"),
    ],
)
def test_statements_are_translated(redshift, postgres):
    assert sql(redshift) == postgres


def test_statements_of_one_message_are_planned_one_by_one():
    plans = translate("select 1; create table t (a geometry); select ';' -- ; \n; truncate t")
    assert [plan.refused for plan in plans] == [False, True, False, False]
    assert [plan.text.strip() for plan in plans] == [
        "select 1",
        "create table t (a geometry)",
        "select ';'",
        "truncate t",
    ]
    assert plans[3].action is not None


def test_password_never_reaches_postgres():
    text = sql("create user u password 'Secret12word'")
    assert "Secret12word" not in text
    assert "sha256|" in text


STRINGS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=200)


@given(value=STRINGS)
def test_strings_keep_their_value(value):
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    literal = "'" + value.replace("'", "''") + "'"
    assert sql(f"select '{escaped}'") == f"SELECT {literal}"
    # Statements with a literal of 100 characters are translated as long statements.
    assert translate_long(f"select '{escaped}', '{'x' * 100}'")[0].sql == f"SELECT {literal}, '{'x' * 100}'"


@given(value=STRINGS)
def test_inserted_strings_are_not_parsed_as_json(value):
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    literal = "'" + value.replace("'", "''") + "'"
    looks_like_json = value.lstrip().startswith(("{", "[", '"'))
    cast = "::text" if looks_like_json else ""
    assert rows_of(f"insert into t values (1, '{escaped}')")[1].strip() == f"(1, {literal}{cast})"


@given(value=st.from_regex(r"\s*[\[{\"][a-z]*", fullmatch=True))
def test_inserted_json_is_cast_to_text(value):
    assert rows_of(f"insert into t values (1, '{value}')")[1].strip() == f"(1, '{value}'::text)"


def test_insert_with_expressions_is_not_split():
    assert rows_of("insert into t values (1, getdate())") is None
    assert rows_of("insert into t values (1) on conflict do nothing") is None
    assert rows_of("insert into t values (1); drop table t") is None


def test_large_insert_is_translated_quickly():
    text = "insert into t values " + ",".join(f"({number}, 'it\\'s {number}', null)" for number in range(40_000))
    start = time.perf_counter()
    [plan] = translate_long(text)
    assert time.perf_counter() - start < 5
    assert "it''s 39999" in plan.sql


def corpus_tokens() -> list[list[str]]:
    """Every statement of the corpus, cut into tokens."""
    statements = []
    for file in sorted(CORPUS.glob("*.yml")):
        for page in yaml.safe_load(file.read_text()):
            statements += [re.findall(r"'[^']*'|\w+|[^\w\s]", case[0]) for case in page["cases"]]
    return statements


STATEMENTS = corpus_tokens()
TOKENS = sorted({token for statement in STATEMENTS for token in statement})


@st.composite
def damaged_statements(draw) -> str:
    """A statement of the corpus without some of its tokens, or with tokens that do not belong there."""
    tokens = list(draw(st.sampled_from(STATEMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(tokens)))
        if draw(st.booleans()):
            del tokens[place : place + 1]
        else:
            tokens.insert(place, draw(st.sampled_from(TOKENS)))
    return " ".join(tokens)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(text=st.text(max_size=300) | damaged_statements())
def test_invalid_statements_are_not_internal_errors(text):
    for plan in translate.__wrapped__(text):
        assert "internal error" not in plan.sql


@pytest.mark.parametrize(
    "text",
    [
        "as",
        "create table t (a int encode)",
        "create table t (a int identity (1, ))",
        "alter table t rename to :u",
        "select * exclude a, b",
        "select ratio_to_report() over (partition by a) from t",
        "merge into t using on t.a = s.a remove duplicates",
    ],
)
def test_incomplete_statements_are_syntax_errors(text):
    [plan] = translate(text)
    assert plan.refused
    assert "internal error" not in plan.sql


PAYLOADS = st.lists(st.tuples(st.sampled_from([b"D", b"Z", b"T", b"C", b"E"]), st.binary(max_size=20)), max_size=6)


@given(messages=PAYLOADS, cut=st.integers(0, 150))
def test_only_complete_messages_are_taken_from_a_buffer(messages, cut):
    framed = [wire.message(kind, payload) for kind, payload in messages]
    buffer = bytearray(b"".join(framed)[:cut])
    complete, size = [], 0
    for message in framed:
        size += len(message)
        if size <= cut:
            complete.append(message)
    taken = []
    for kind, start, end in wire.complete(buffer):
        part = bytes(buffer[start:end])
        assert part[0] == kind
        taken += wire.split(part)
    assert taken == complete


@given(data=st.binary(max_size=400))
@example(data=bytes(5))
@example(data=b"D" + bytes(4))
def test_random_bytes_do_not_break_the_framing(data):
    position = 0
    try:
        for kind, start, end in wire.complete(bytearray(data)):
            assert (kind, start) == (data[start], position)
            assert start + 5 <= end <= len(data)
            position = end
    except wire.ProtocolError:
        # Data rows before the invalid one are not yielded.
        while data[position : position + 1] == b"D" and (length := _length(data, position)) >= 4:
            position += 1 + length
        assert _length(data, position) < 4


def _length(data: bytes, position: int) -> int:
    return int.from_bytes(data[position + 1 : position + 5])


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(user=NAMES, database=NAMES, more=st.dictionaries(NAMES, NAMES, max_size=3))
def test_startup_parameters_arrive_as_sent(user, database, more):
    message = wire.startup_message(user, database, more)
    length, code = struct.unpack_from("!II", message)
    assert (length, code) == (len(message), wire.PROTOCOL_3_0)
    expected = {"user": user, "database": database, "client_encoding": "UTF8", **more}
    assert wire.parameters_of(message[8:]) == expected


@given(data=st.binary(max_size=100))
def test_startup_parameters_are_read_completely_or_refused(data):
    try:
        parameters = wire.parameters_of(data)
    except wire.ProtocolError:
        return
    pairs = data[:-2].split(b"\0") if len(data) > 2 else []
    assert data.endswith(b"\0\0") or data == b"\0"
    assert parameters == dict(zip(map(bytes.decode, pairs[::2]), map(bytes.decode, pairs[1::2]), strict=True))


@pytest.mark.parametrize(
    "payload", [b"", b"user\0", b"user\0me", b"user\0me\0", b"user\0me\0database\0\0", b"us\xff\0me\0\0"]
)
def test_incomplete_startup_parameters_are_refused(payload):
    with pytest.raises(wire.ProtocolError, match=r"start-?up"):
        wire.parameters_of(payload)


def test_passwords_match_their_verifier():
    verifier = login.verifier("Plain1text")
    assert verifier.startswith("sha256|")
    assert login.matches(verifier, "u", "Plain1text")
    assert not login.matches(verifier, "u", "plain1text")
    digest = hashlib.sha256(b"Plain1textsalt").hexdigest()
    assert login.matches(f"sha256|{digest}|salt", "u", "Plain1text")
    assert not login.matches(None, "u", "")
    assert login.matches(login.verifier("sha256|Plain1text"), "u", "Plain1text")
    assert login.matches(f"md5{hashlib.md5(b'Plain1textu', usedforsecurity=False).hexdigest()}", "u", "Plain1text")
    assert login.matches("no verifier", "u", "Plain1text") is False


@pytest.mark.parametrize("password", ["Plain1te", "P1" + "x" * 62])
def test_passwords_have_8_to_64_characters(password):
    assert login.matches(login.verifier(password), "u", password)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("Plain1t", "between 8 and 64"),
        ("P1" + "x" * 63, "between 8 and 64"),
        ("Plaintextonly", "a number"),
        ("plain1text", "an uppercase letter"),
        ("PLAIN1TEXT", "a lowercase letter"),
    ],
)
def test_weak_passwords_are_refused(password, reason):
    with pytest.raises(ValueError, match=reason):
        login.verifier(password)


def test_digests_are_stored_unchanged():
    digest = "AB" * 32
    assert login.verifier(f"sha256|{digest}|salt") == f"sha256|{digest.lower()}|salt"
    assert login.verifier("md5" + "0" * 32) == "md5" + "0" * 32
