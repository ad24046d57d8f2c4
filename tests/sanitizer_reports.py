"""pytest plugin: what a sanitizer wrote while the tests ran fails the run.

A daemon's own exit code may be lost, since tests kill it. KEYBROKER_SANITIZER_LOG is the log_path that the binaries
were given; each report is a file of that name with a pid behind it.
"""

import glob
import os

PREFIX = os.environ.get("KEYBROKER_SANITIZER_LOG")


def _reports():
    return sorted(glob.glob(glob.escape(PREFIX) + ".*")) if PREFIX else []


def pytest_sessionstart(session):
    for path in _reports() if not hasattr(session.config, "workerinput") else ():  # a worker's could be another's of now
        os.unlink(path)


def pytest_sessionfinish(session):
    if _reports() and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    for path in _reports():
        terminalreporter.section(f"sanitizer report {os.path.basename(path)}", red=True)
        with open(path, encoding="utf-8", errors="replace") as report:
            terminalreporter.write(report.read()[:4000])
