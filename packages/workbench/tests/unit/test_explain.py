"""Short messages for dbt's errors."""

from workbench.explain import explain


def test_full_disk_is_named():
    text = 'Database Error in model a\n  could not extend file "base/5/16": No space left on device'
    assert explain(text, []) == ("the disk is full", "free some space, and build again")


def test_unknown_message_is_not_explained():
    assert explain("Database Error\n  the cluster is on fire", []) is None


def test_denied_table_is_named_in_the_grant():
    explained = explain("Database Error\n  permission denied for relation salaries", [])
    assert explained == (
        "permission denied for relation salaries",
        "run as a superuser: grant select on salaries to <user>",
    )
