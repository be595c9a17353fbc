"""PostgreSQL's answers: internal statements are hidden, errors and command tags become Redshift's."""

import struct

import pytest

from redshift_local.plan import Plan
from redshift_local.protocol import wire
from redshift_local.protocol.retype import BINARY, EXTENDED
from redshift_local.server.closed import full_disk, reason
from redshift_local.server.postgres import Postgres
from redshift_local.server.segment import Answers, Segment

READY = wire.message(b"Z", b"I")
ROW = wire.message(b"D", struct.pack("!Hi", 1, 1) + b"7")


@pytest.fixture
def completed() -> list[tuple]:
    return []


@pytest.fixture
def answers(completed) -> Answers:
    return Answers(lambda plan, started, tag, error: completed.append((plan, started > 0, tag, error)))


def add(answers: Answers, *plans: Plan, **attributes) -> Segment:
    segment = Segment(**attributes)
    for plan in plans:
        segment.await_completion(plan)
    answers.segments.append(segment)
    return segment


def complete(tag: str) -> bytes:
    return wire.message(b"C", tag.encode() + b"\0")


def test_answers_of_the_client_are_passed_on(answers, completed):
    plan = Plan("select 7")
    segment = add(answers, plan)
    data = ROW + complete("SELECT 1") + READY
    assert answers.take(bytearray(data)) == data
    assert segment.done.is_set()
    assert not answers.segments
    assert completed == [(plan, True, "SELECT 1", None)]


def test_plans_tag_replaces_the_command_tag(answers, completed):
    plan = Plan("do", tag="CREATE USER")
    add(answers, plan)
    assert answers.take(bytearray(complete("DO") + READY)) == complete("CREATE USER") + READY
    assert completed == [(plan, True, "DO", None)]


def test_answers_of_internal_statements_are_hidden(answers, completed):
    internal = add(answers, internal=True, ready=False)
    add(answers, Plan("select 7"))
    first = ROW + ROW + complete("SELECT 2") + READY
    second = ROW + complete("SELECT 1") + READY
    assert answers.take(bytearray(first + second)) == second
    assert (internal.rows, internal.tag, internal.failed) == ([ROW, ROW], "SELECT 2", None)
    assert internal.done.is_set()
    assert len(completed) == 1


def test_error_of_an_internal_statement_is_stored_for_the_gateway(answers, completed):
    segment = add(answers, internal=True, ready=False)
    assert answers.take(bytearray(wire.error("22012", "division by zero") + READY)) == b""
    assert segment.failed["C"] == "22012"
    assert not completed


def test_end_of_a_segment_can_be_hidden(answers):
    add(answers, Plan("select 7"), ready=False)
    data = complete("SELECT 1")
    assert answers.take(bytearray(data + READY)) == data


def test_incomplete_message_stays_in_the_buffer(answers):
    add(answers, Plan("select 7"))
    buffer = bytearray(ROW + READY[:-1])
    assert answers.take(buffer) == ROW
    assert buffer == READY[:-1]
    assert answers.segments


def test_messages_between_statements_are_passed_on(answers):
    for message in (
        wire.notice("shutting down"),
        wire.message(b"S", b"TimeZone\0UTC\0"),
        wire.error("57P01", "shutdown"),
    ):
        assert answers.take(bytearray(message)) == message


def test_notices_of_internal_statements_are_passed_on(answers):
    add(answers, internal=True, ready=False)
    notice = wire.notice("table is empty")
    assert answers.take(bytearray(notice + complete("VACUUM") + READY)) == notice


def test_rows_of_a_simple_query_are_rewritten(answers):
    add(answers, Plan("select a"))
    column = wire.message(b"T", struct.pack("!H", 1) + b"a\0" + struct.pack("!IhIhih", 0, 0, 17, -1, -1, 0))
    row = wire.message(b"D", struct.pack("!Hi", 1, 4) + b"\\x0a")
    rewritten = wire.message(b"D", struct.pack("!Hi", 1, 2) + b"0a")
    assert answers.take(bytearray(column + row + complete("SELECT 1"))).endswith(rewritten + complete("SELECT 1"))


def test_transaction_status_is_recorded(answers):
    add(answers)
    assert answers.status == b"I"
    answers.take(bytearray(wire.message(b"Z", b"T")))
    assert answers.status == b"T"


def error_of(answers: Answers, **fields: str) -> dict[str, str]:
    return wire.fields_of(answers.take(bytearray(wire.error_of({"S": "ERROR", **fields})))[5:])


def test_errors_do_not_show_positions_in_postgres(answers, completed):
    plan, next_plan = Plan("select 1/0"), Plan("select 1")
    segment = add(answers, plan, next_plan)
    fields = error_of(answers, C="22012", M="division by zero", P="8", F="int.c", L="846", R="int4div", W="SQL")
    assert fields == {"S": "ERROR", "C": "22012", "M": "division by zero"}
    assert not segment.plans
    [(failed, _, tag, error)] = completed
    assert (failed, tag, error["M"]) == (plan, "", "division by zero")


def test_error_before_execution_belongs_to_the_parsed_statement(answers, completed):
    plan = Plan("selec")
    add(answers).parsed = plan
    error_of(answers, C="42601", M="syntax error")
    assert completed[0][0] is plan


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"C": "23502", "c": "a", "M": "null value"}, "Cannot insert a NULL value into column a"),
        ({"C": "42P01", "M": 'relation "stl_none" does not exist'}, "the system view stl_none"),
        ({"C": "42P01", "M": 'relation "pg_catalog.svv_none" does not exist'}, "the system view svv_none"),
        ({"C": "0A000", "M": "cross-database references are not implemented: a.b.c"}, "tables of another database"),
        ({"C": "42P01", "M": 'relation "orders" does not exist'}, 'relation "orders" does not exist'),
    ],
)
def test_errors_have_redshifts_text(answers, fields, message):
    add(answers, Plan("select 1"))
    assert error_of(answers, **fields)["M"].removeprefix("not supported by the local warehouse: ") == message


def test_copy_to_the_gateway_gets_its_data(answers):
    chunks = []
    segment = add(answers, internal=True, ready=False, data=chunks.append)
    data = wire.message(b"d", b"1\t2\n") + wire.message(b"d", b"3\t4\n") + complete("COPY 2") + READY
    assert answers.take(bytearray(data)) == b""
    assert (chunks, segment.tag) == ([b"1\t2\n", b"3\t4\n"], "COPY 2")


def test_copy_starts_when_postgres_is_ready_for_data(answers):
    segment = add(answers, internal=True, ready=False)
    assert not segment.copying.is_set()
    answers.take(bytearray(wire.message(b"G", b"\0\0\0")))
    assert segment.copying.is_set()
    assert not segment.done.is_set()


def test_failed_copy_wakes_its_sender(answers):
    segment = add(answers, internal=True, ready=False)
    answers.take(bytearray(wire.error("42P01", "no table") + READY))
    assert segment.copying.is_set()


def test_described_columns_are_recorded(answers):
    plan = Plan("select $1")
    segment = add(answers)
    segment.described.append(plan)
    column = wire.message(b"T", struct.pack("!H", 1) + b"a\0" + struct.pack("!IhIhih", 0, 0, 17, -1, -1, 0))
    rewritten_column = wire.message(b"T", struct.pack("!H", 1) + b"a\0" + struct.pack("!IhIhih", 0, 0, 6551, -1, -1, 0))
    assert answers.take(bytearray(column)) == rewritten_column
    assert plan.columns.columns == {0: 6551}
    assert not segment.described
    segment.await_completion(plan)
    row = wire.message(b"D", struct.pack("!Hi", 1, 4) + b"\\x0a")
    rewritten = wire.message(b"D", struct.pack("!Hi", 1, 2) + b"0a")
    bound = wire.message(b"2")
    assert answers.take(bytearray(bound + row + complete("SELECT 1"))) == bound + rewritten + complete("SELECT 1")


def test_client_is_told_when_a_result_uses_another_protocol(completed):
    answers = Answers(lambda *fields: completed.append(fields), protocol=BINARY)
    older, newer = (wire.parameter("server_protocol_version", str(number)) for number in (EXTENDED, BINARY))
    for modifier, expected in (((18 << 16) + 4, b""), (-1, older), (-1, b""), ((18 << 16) + 4, newer)):
        add(answers, Plan("select"))
        column = wire.message(b"T", struct.pack("!H", 1) + b"a\0" + struct.pack("!IhIhih", 0, 0, 1700, -1, modifier, 0))
        sent = answers.take(bytearray(column + complete("SELECT 1") + READY))
        assert sent[: sent.index(b"T\0")] == expected


def test_errors_of_a_full_disk_name_the_folder(completed):
    answers = Answers(lambda *fields: completed.append(fields), "/data/warehouse")
    add(answers, Plan("insert"))
    problem = wire.error("53100", "could not extend file: No space left on device", "Check free disk space.")
    [hint] = [part for part in answers.take(bytearray(problem)).split(b"\0") if part.startswith(b"H")]
    assert hint.startswith(b"Hthe disk is full: /data/warehouse. Free some space")


def test_stopped_postgres_error_names_the_full_disk(tmp_path):
    postgres = Postgres(tmp_path)
    assert reason(postgres)[0] == "57P01"
    postgres.log.write_text('PANIC:  could not write to file "pg_wal/xlogtemp.7": No space left on device\n')
    assert reason(postgres) == ("53100", full_disk(tmp_path))
