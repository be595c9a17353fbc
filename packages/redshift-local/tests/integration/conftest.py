"""The warehouse that most tests share."""

import pytest


@pytest.fixture(scope="session")
def warehouse(redshift_with_s3):
    return redshift_with_s3
