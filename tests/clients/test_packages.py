"""Each library as it is installed from its artefact: its own tests, and the example that its README shows."""

import subprocess

from harness import leaks
from harness.broker import KEY


def test_own(installed, tmp_path):
    done = subprocess.run([installed / "own"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


def test_example(installed, broker, litellm):
    done = broker.run(installed / "example", env={"KEYBROKER_TEST_MODEL": "gpt-5"}, timeout=60)
    assert done.code == 0, done
    assert len(broker.audit(event="acquire")) >= 1 and [call["status"] for call in litellm.calls("/v1/chat/completions")] == [200], done
    broker.remember({"api_key": broker.acquire(bind="ttl")["api_key"]})
    outputs = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    assert not leaks.find(broker.issued, outputs) and not KEY.search(done.stdout + done.stderr)
