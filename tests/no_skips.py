"""pytest plugin: with KEYBROKER_FORBID_SKIPS=1 a skipped test is a failed one.

In use as `-p no_skips` with this folder on PYTHONPATH, as test.sh does.
"""

import os

import pytest

FORBIDDEN = os.environ.get("KEYBROKER_FORBID_SKIPS") == "1"


def _fail(report):
    """A skip carries (file, line, reason); an expected failure is none of ours."""
    if not FORBIDDEN or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"skips are forbidden here: {reason.removeprefix('Skipped: ')}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    _fail((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report():
    _fail((yield).get_result())
