"""Each library as it is installed from its artefact: its own tests, and the example that its README shows."""

import re
import subprocess

import pytest

from stage import hidden, languages

WRONG = re.compile(r"not ok|FAIL|Error|panic|DATA RACE")  # as the usual runners say it
pytestmark = pytest.mark.parametrize("language", languages.wanted())


def test_own(language, installed, tmp_path):
    done = subprocess.run([installed / "own"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    log = languages.INSTALLED / f"{language}-own.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    wrong = [line for line in log.read_text(encoding="utf-8").splitlines() if WRONG.search(line)]
    if done.returncode != 0:
        said = [f"ended with {done.returncode}; all it said is in {log}", *wrong[:40], "…", done.stdout[-1500:], done.stderr[-1000:]]
        pytest.fail("\n".join(said), pytrace=False)


def test_example(installed, broker, litellm):
    done = broker.run(installed / "example", "gpt-5", env={"KEYBROKER_TEST_MODEL": "gpt-5"}, timeout=60)
    assert done.code == 0, done
    assert [call["status"] for call in litellm.calls("/v1/chat/completions")] == [200], done
    assert not hidden.parts({broker.acquire(bind="ttl")["api_key"]}, done.stdout + done.stderr)
