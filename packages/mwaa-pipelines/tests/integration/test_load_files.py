"""Files in S3 are loaded into the warehouse once, and a broken one is named."""

import bz2
import gzip
import threading
from typing import Any

import pytest
from load_shop import Shop, shop

from mwaa_pipelines.load_files import Loader, LoadOutcome
from mwaa_pipelines.settings import LoadedTable

__all__ = ["shop"]


def test_each_new_file_is_loaded_once(shop: Shop) -> None:
    shop.put("1.csv", "id,name,price\n1,a,1.5\n2,b,2\n")
    shop.put("2.csv.gz", gzip.compress(b"id,name,price\n3,c,3\n"))
    shop.put("2026/3.csv.bz2", bz2.compress(b"\xef\xbb\xbfPRICE,Name,ID\n4,d,4\n"))
    shop.put("_SUCCESS", "1,a,1")
    shop.put("empty.csv", "")
    first = shop.load("first")
    assert (first.files, first.rows, first.status, first.message) == (3, 4, "success", "3 files loaded")
    assert first.bytes == 28 + len(gzip.compress(b"id,name,price\n3,c,3\n")) + len(
        bz2.compress(b"\xef\xbb\xbfPRICE,Name,ID\n4,d,4\n")
    )
    assert shop.query(f"select count(*) from {shop.table} where loaded_at is not null") == [(4,)]
    shop.put("1.csv", "id,name,price\n1,a,1.5\n2,b,2\n")
    shop.put("4.csv", "id,name,price\n5,e,5\n")
    second = shop.load("second")
    assert (second.files, second.rows, second.problems) == (1, 1, ())
    assert shop.ids() == [1, 2, 3, 4, 5]
    # A retry reports what its run has loaded.
    assert (shop.load("second").files, shop.load("third").files) == (1, 0)


def test_json_lines_are_loaded_by_their_keys(shop: Shop) -> None:
    shop.put("1.json", '{"id": 1, "NAME": "a", "price": 1.5}\n{"price": 2, "id": 2, "name": null}\n')
    assert shop.load(format="json").problems == ()
    assert shop.query(f"select id, name, price::varchar from {shop.table} order by id") == [
        (1, "a", "1.50"),
        (2, None, "2.00"),
    ]


@pytest.mark.parametrize(
    ("settings", "content", "where"),
    [
        ({}, "id,name,price\n1,a,1\nx2,b,2\n", "line 3, column id (int4), value 'x2': Invalid digit, Value 'x', Pos 0"),
        ({}, "name,id,price\nlonger than ten,1,1\n", "line 2, column name (varchar), value 'longer than ten': String"),
        ({"format": "json"}, '{"id": 1, "name": "a", "price": "?"}', "line 1, column price (numeric), value '?': "),
        ({}, "id,name,price\n1,a\n", "line 2: Delimiter not found"),
    ],
)
def test_broken_file_is_named_after_the_others_were_loaded(
    shop: Shop, settings: dict[str, str], content: str, where: str
) -> None:
    broken = shop.put("2", content)
    for number in (1, 3):
        text = f'{{"id": {number}, "name": "a", "price": 1}}' if settings else f"id,name,price\n{number},a,1\n"
        shop.put(str(number), text)
    outcome = shop.load(**settings)
    assert (outcome.files, outcome.status) == (2, "partial success")
    (problem,) = outcome.problems
    assert problem.startswith(f"{broken}: {where}")
    assert shop.ids() == [1, 3]
    # A file that was never loaded can be corrected.
    shop.put("2", '{"id": 2, "name": "b", "price": 2}' if settings else "id,name,price\n2,b,2\n")
    assert shop.load(**settings).problems == ()
    assert shop.ids() == [1, 2, 3]


def test_file_that_cannot_be_decompressed_is_named(shop: Shop) -> None:
    plain = shop.put("1.csv.gz", "id,name,price\n1,a,1\n")
    cut = shop.put("2.csv.gz", gzip.compress(b"id,name,price\n" + b"1,a,1\n" * 5000)[:-20])
    outcome = shop.load()
    first, second = outcome.problems
    assert first.startswith(f"{plain}: cannot be decompressed: Not a gzipped file")
    assert second.startswith(f"{cut}: ")
    assert (outcome.status, shop.ids()) == ("error", [])


def test_new_columns_are_refused_or_added(shop: Shop) -> None:
    shop.put("1.csv", "id,name,price,city\n1,a,1,Paris\n")
    (problem,) = shop.load().problems
    assert "1.csv: has the column city, which" in problem
    # Only the owner of a table can add columns.
    (problem,) = shop.load(new_columns="add").problems
    assert "must be owner" in problem
    shop.query(f"alter table {shop.table} owner to {shop.user}")
    assert shop.load(new_columns="add").problems == ()
    shop.put("2.csv", "id,name,price\n2,b,2\n")
    (problem,) = shop.load().problems
    assert "2.csv: lacks the column city of" in problem
    assert shop.query(f"select id, city from {shop.table}") == [(1, "Paris")]


def test_file_that_fails_after_a_column_was_added_changes_nothing(shop: Shop) -> None:
    shop.query(f"alter table {shop.table} owner to {shop.user}")
    shop.put("1.csv", "id,name,price,city\nx,a,1,Paris\n")
    assert "column id" in shop.load(new_columns="add").problems[0]
    assert shop.query(f"select count(*) from information_schema.columns where table_schema = '{shop.source}'") == [(4,)]


def test_changed_file_is_an_error_but_the_same_content_is_not(shop: Shop) -> None:
    shop.put("1.csv", "id,name,price\n1,a,1\n")
    assert shop.load().problems == ()
    # A bucket with encryption gives the same content another ETag.
    shop.query(f"update {shop.target}.loaded_files set etag = 'other'")
    assert (shop.load().problems, shop.ids()) == ((), [1])
    shop.put("1.csv", "id,name,price\n1,a,1\n2,b,2\n")
    (problem,) = shop.load().problems
    assert "1.csv: was loaded at 20" in problem
    assert "has other content now. Deliver new rows under a new key" in problem
    assert shop.ids() == [1]


def test_file_that_changes_while_it_is_loaded_is_left_for_the_next_run(shop: Shop) -> None:
    shop.put("1.csv", "id,name,price\n1,a,1\n")
    loader, original = shop.loader(), Loader._query

    class Changing(Loader):
        def _query(self, statement: str, *values: Any) -> Any:
            if statement.startswith("copy"):
                shop.put("1.csv", "id,name,price\n2,b,2\n")
            return original(self, statement, *values)

    changing = Changing(loader.connection, shop.s3, shop.target)
    table = LoadedTable(table=shop.table, prefix="orders/", format="csv")
    (problem,) = changing.load(table, shop.bucket).problems
    assert "has changed while it was being loaded" in problem
    assert shop.ids() == []
    assert (shop.load().problems, shop.ids()) == ((), [2])


def test_file_is_not_loaded_with_another_one_whose_key_begins_the_same(shop: Shop) -> None:
    shop.put("1.csv", "id,name,price\n1,a,1\n")
    shop.put("1.csv.old", "id,name,price\n2,b,2\n")
    (problem,) = shop.load().problems
    assert "1.csv: COPY would load orders/1.csv.old, too" in problem
    assert shop.ids() == [2]


def test_only_the_requested_files_are_loaded(shop: Shop) -> None:
    shop.put("1.csv", "broken")
    two = shop.put("2.csv", "id,name,price\n2,b,2\n")
    outcome = shop.load(only=(two,))
    assert (outcome.problems, shop.ids()) == ((), [2])
    missing = two.replace("2.csv", "3.csv")
    assert shop.load(only=(missing,)).problems == (f"{missing}: is not in the bucket",)


@pytest.mark.parametrize("name", ["it's.csv", "a\\'b.csv", "100%s ?.csv", "Käse 🧀/1.csv", '"x";--.csv', "a b+c.csv"])
def test_unusual_names_of_files_are_loaded_once(shop: Shop, name: str) -> None:
    shop.put(name, "id,name,price\n1,a,1\n")
    shop.put("2.csv", "id,name,price\n2,b,2\n")
    assert (shop.load().problems, shop.load().problems) == ((), ())
    assert shop.ids() == [1, 2]
    assert shop.query(f"select count(distinct file) from {shop.target}.loaded_files") == [(2,)]


def test_two_sessions_at_once_load_each_file_once(shop: Shop) -> None:
    shop.load()
    for number in range(12):
        shop.put(f"{number:02}.csv", f"id,name,price\n{number},a,1\n")
    table = LoadedTable(table=shop.table, prefix="orders/", format="csv")
    loaders = [shop.loader(f"run {number}") for number in range(3)]
    outcomes: list[LoadOutcome] = []
    barrier = threading.Barrier(len(loaders))

    def work(loader: Loader) -> None:
        barrier.wait()
        outcomes.append(loader.load(table, shop.bucket))

    threads = [threading.Thread(target=work, args=(loader,)) for loader in loaders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.problems for outcome in outcomes] == [()] * len(loaders)
    assert sum(outcome.files for outcome in outcomes) == 12
    assert shop.ids() == list(range(12))


def test_missing_table_and_bucket_are_named(shop: Shop) -> None:
    shop.put("1.csv", "id,name,price\n1,a,1\n")
    (problem,) = shop.load(table=f"{shop.source}.order").problems
    assert f"the table {shop.source}.order does not exist" in problem
    table = LoadedTable(table=shop.table, prefix="orders/", format="csv")
    (problem,) = shop.loader().load(table, f"no-{shop.bucket}").problems
    assert problem.startswith(f"s3://no-{shop.bucket}/orders/: cannot be listed: ")
    assert "NoSuchBucket" in problem
