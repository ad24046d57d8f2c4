"""What demo.sh says when its own clean-up fails."""

import pathlib
import re
import subprocess
import sys

import pytest

DEMO = pathlib.Path(__file__).resolve().parents[2] / "demo.sh"


@pytest.mark.parametrize("dead", [True, False], ids=["no-litellm", "wrong-key"])
def test_cleanup_that_fails_says_so_in_one_line(litellm, tmp_path, dead):
    take_back = re.search(r"take_back\(\) \{\n[^\n]*<<'EOF'\n(.*?)^EOF$", DEMO.read_text(), re.S | re.M)[1]
    key = tmp_path / "master.key"
    key.write_text("sk-wrong-0123456789\n")
    done = subprocess.run([sys.executable, "-B", "-", "http://127.0.0.1:9" if dead else litellm.url, key, "keybroker-demo-x"],
                          input=take_back, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "keybroker-demo-x" in done.stderr, done.stderr
