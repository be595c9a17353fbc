"""The page of the report: its content, its protection against scripts, and its size."""

import base64
import datetime
import hashlib
import json
import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from fake_history import NASTY, REPORT_TIME, history

from audit_report.history import LEFT_OUT, MESSAGE_CHARACTERS, OUTCOMES, compact
from audit_report.page import render

MEGABYTE = 1_000_000


class Page(HTMLParser):
    """The elements of a page, with their attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), ""))

    def handle_endtag(self, tag):
        self.elements.append(("", {}, ""))

    def handle_data(self, data):
        if self.elements:
            tag, attributes, text = self.elements[-1]
            self.elements[-1] = (tag, attributes, text + data)

    def named(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]

    def data(self) -> dict:
        return json.loads(next(text for attributes, text in self.named("script") if attributes.get("id") == "data"))


def page_of(views: dict, warehouse: str = "dev.analytics") -> str:
    return render(views, warehouse, 30, REPORT_TIME)


def failed(data: dict) -> list[dict]:
    results = (dict(zip(data["resultColumns"], values, strict=False)) for values in data["results"])
    return [result for result in results if result["outcome"] == OUTCOMES.index("failed")]


def test_any_text_is_escaped_and_shown():
    page = Page(page_of(history(3, 4), warehouse="dev.</title><script>alert(1)</script>"))
    data = page.data()
    (result,) = failed(data)
    assert data["texts"][result["message"]] == f"0: {NASTY}"
    assert data["tests"][0]["name"] == f"test {NASTY}"
    # The data, the charting library and the page's two scripts, but no injected script.
    assert [attributes.get("type") for attributes, _ in page.named("script")] == ["application/json", None, None, None]
    assert not page.named("img")


def test_content_security_policy_allows_only_own_scripts_and_styles():
    page = Page(page_of(history(1, 2)))
    (policy,) = [
        attributes["content"]
        for attributes, _ in page.named("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert rules["img-src"] == ["data:"]
    assert set(rules) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    for tag in ("script", "style"):
        texts = [text for attributes, text in page.named(tag) if attributes.get("type") != "application/json"]
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert rules[f"{tag}-src"] == [f"'sha256-{digest}'" for digest in digests]
    addresses = [
        value
        for _, attributes, _ in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "action")
    ]
    assert all(value.startswith(("#", "data:")) for value in addresses)
    assert not [
        name for _, attributes, _ in page.elements for name in attributes if name == "style" or name[:2] == "on"
    ]


def test_long_messages_are_cut_with_a_note():
    data = compact(history(1, 1, "🙂" * MEGABYTE))
    assert len(data["texts"][0]) < MESSAGE_CHARACTERS + 100
    assert data["texts"][0].endswith("… (998,003 more characters)")


def test_10_000_results_take_less_than_2_megabytes():
    page = page_of(history(500, 20))
    assert len(Page(page).data()["results"]) == 10_000
    assert len(page.encode()) < 2 * MEGABYTE


def test_newest_of_10_000_long_messages_fit_into_2_megabytes():
    views = history(10_000, 1, "<" * 1_500, fails=1)
    # Runs with one node each need the most space per result.
    page = page_of(views)
    assert len(page.encode()) < 2 * MEGABYTE
    data = compact(views)
    results, texts = failed(data), data["texts"]
    assert texts[results[0]["message"]].startswith("0: <<<")
    assert texts[results[-1]["message"]] == LEFT_OUT


def test_empty_history_renders():
    data = Page(page_of(history(0, 0))).data()
    assert (data["runs"], data["results"], data["statistics"]) == ([], [], [])


def test_numbers_and_times_become_json():
    views = history(1, 1)
    views["nodes"][0] |= {"execution_time": float("nan"), "started_at": None, "rows_affected": None}
    views["marts"][0]["hours_since_built"] = Decimal("1.23456")
    data = compact(views)
    result = dict(zip(data["resultColumns"], data["results"][0], strict=False))
    assert (result["seconds"], result["start"], result["length"], result["rows"]) == (None, None, None, None)
    assert data["marts"][0]["hours_since_built"] == pytest.approx(1.235)
    started = dict(zip(data["runColumns"], data["runs"][0], strict=True))["started"]
    assert datetime.datetime.fromtimestamp(started / 1000, datetime.UTC).isoformat() == "2026-03-31T11:00:00+00:00"


def test_runs_know_where_airflow_is_and_others_do_not():
    views = history(3, 2)
    # A result that was recovered has no log.
    views["nodes"][-1]["airflow_log_url"] = None
    views["runs"][1]["run_key"] = views["nodes"][2]["run_key"] = views["nodes"][3]["run_key"] = "by hand"
    data = compact(views)
    place = data["runColumns"].index("airflow")
    addresses = [None if run[place] is None else data["names"][run[place]] for run in data["runs"]]
    assert addresses == ["http://127.0.0.1:8080", None, "http://127.0.0.1:8080"]


def test_results_of_older_runs_are_left_out():
    views = history(2, 3)
    del views["runs"][1]
    assert {values[0] for values in compact(views)["results"]} == {0}


def test_page_has_no_external_addresses_and_the_license_is_included():
    from audit_report.page import HERE

    sources = "".join((HERE / name).read_text() for name in ("page.html.j2", "page.css", "parts.js", "page.js"))
    assert not re.findall(r"\b(?:fetch|XMLHttpRequest|WebSocket|innerHTML|eval|import)\b", sources)
    assert "MIT License" in (HERE / "uplot" / "LICENSE").read_text()
