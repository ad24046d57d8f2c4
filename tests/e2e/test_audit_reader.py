"""Whoever reads the audit is in it."""

import pytest


@pytest.mark.parametrize("after", [0, 1, 2])
def test_reading_from_anywhere_is_on_record(broker, after):
    broker.acquire(profile="process", bind="ttl")
    rows = "SELECT count(*) FROM audit WHERE event = 'audit_read'"
    assert broker.count(rows) == 0
    assert broker.admin("audit_read", after=after)["rows"]
    assert broker.count(rows) == 1
