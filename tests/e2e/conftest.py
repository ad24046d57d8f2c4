"""Fixtures of the end-to-end suite. By default against the stand-in; `-m live` against LITELLM_BASE_URL."""

import contextlib
import importlib.util
import os
import pathlib
import resource
import signal
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # for the harness

from harness import build  # noqa: E402
from harness.broker import Broker  # noqa: E402
from harness.live import Live  # noqa: E402


def _load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Standin(_load("standin_client", HERE.parent / "standin" / "client.py").Standin):
    """The stand-in, asked in the same words as a real LiteLLM."""

    def keys(self, user_id=None, token=None):
        """All keys: the stand-in is this test's alone."""
        return super().keys()


def pytest_configure(config):
    """Markers, the plugin that forbids skips, and room for many sockets."""
    config.addinivalue_line("markers", "live: needs a real LiteLLM (LITELLM_BASE_URL, LITELLM_MASTER_KEY)")
    config.addinivalue_line("markers", "standin(**options): how this test's stand-in is started")
    config.addinivalue_line("markers", "unsanitized: puts a library before the daemon's, which AddressSanitizer refuses")
    config.addinivalue_line("markers", "systemd: starts a unit of a running systemd")
    config.addinivalue_line("markers", "leaky: the test itself puts a secret where the search would find it")
    plugin = HERE.parent / "no_skips.py"
    if plugin.exists() and not config.pluginmanager.has_plugin("no_skips"):
        config.pluginmanager.register(_load("no_skips", plugin), "no_skips")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and what is ignored here is so in each program
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_collection_modifyitems(config, items):
    """Live tests run only when they are asked for; some never with a sanitizer."""
    without = [] if config.option.markexpr else ["live"]
    without += [] if os.path.exists("/run/systemd/system") else ["systemd"]
    with contextlib.suppress(FileNotFoundError):  # not built: each test says so
        without += ["unsanitized"] if build.is_sanitized() else []
    out = [item for item in items if any(item.get_closest_marker(name) for name in without)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


def pytest_sessionfinish():
    """Removes the copies of the programs."""
    build.remove_public_directory()


@pytest.fixture(scope="session")
def _standins():
    running = {}
    yield running
    for standin in running.values():
        standin.stop()


@pytest.fixture
def litellm(request, _standins):
    """A stand-in with an empty database; @pytest.mark.standin(litellm="1.80.11", second=True, …) chooses another."""
    marker = request.node.get_closest_marker("standin")
    options = dict(marker.kwargs) if marker else {}
    name = repr(sorted(options.items()))
    if name not in _standins:
        _standins[name] = Standin(**options)
    standin = _standins[name]
    standin.reset()
    yield standin
    standin.clear()


@pytest.fixture
def own_litellm(tmp_path):
    """A stand-in of this test alone, which it may stop, stop with a signal, and start again with its data."""
    standin = Standin(state_file=tmp_path / "litellm")
    yield standin
    standin.stop()


@pytest.fixture
def live():
    """The real LiteLLM of LITELLM_BASE_URL; what the test made there is deleted after it."""
    url, master_key = os.environ.get("LITELLM_BASE_URL"), os.environ.get("LITELLM_MASTER_KEY")
    if not url or not master_key:
        pytest.skip("needs LITELLM_BASE_URL and LITELLM_MASTER_KEY, a real LiteLLM")
    upstream = Live(url, master_key)
    yield upstream
    upstream.clean()


@pytest.fixture
def make_live_broker(request, live):
    """Like make_broker, over the real LiteLLM, with names that no other run has."""
    yield from brokers(request, live, live.names)


@pytest.fixture
def make_broker(request, litellm):
    """Makes brokers (not yet started) over this test's stand-in, and searches each for secrets at the end."""
    yield from brokers(request, litellm)


def brokers(request, litellm, names=None):
    """The generator behind make_broker and its live twin. names: variables for each broker's environment."""
    made = []

    def make(config=None, upstream=litellm, env=None, **options):
        made.append(Broker(upstream, config, env={**(names or {}), **(env or {})}, **options))
        return made[-1]
    yield make
    problems = []
    for broker in made:
        try:
            broker.close()
        except AssertionError as problem:
            problems.append(str(problem))
    if problems and not request.node.get_closest_marker("leaky"):
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def broker(make_broker):
    """A running broker with the drop-in's profiles, whose shared key is there."""
    running = make_broker().start()
    running.wait_ready()
    return running


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows its daemons' logs."""
    report = (yield).get_result()
    if report.failed and os.environ.get("KEYBROKER_E2E_LOGS", "1") == "1":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Broker) and os.path.exists(value.log_path):
                report.sections.append(("keybrokerd's log", value.log[-6000:]))
