"""The checks of the source, and test.sh, can fail: each rule meets a file that breaks it."""

import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
FORMATTED = "int f(void)\n{\n\treturn 0;\n}\n"


def run(check, tmp_path, name, text, *before):
    """Runs one check on a tree of one file; returns (exit code, its output)."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    result = subprocess.run([sys.executable, HERE / f"{check}.py", *before, tmp_path],
                            capture_output=True, text=True, check=False)
    return result.returncode, result.stdout


def function(body):
    return "static int f(int a)\n{\n" + body + "}\n"


@pytest.mark.parametrize("name,text,complaint", [
    ("src/core/a.c", '#include "io/store.h"\n', "core must not include io"),
    ("src/base/a.c", '#include "core/key.h"\n', "base must not include core"),
    ("src/cli/a.c", '#include "io/http.h"\n', "cli must not include io"),
    ("src/cli/a.c", '#include "helper.h"\n', "names no layer's folder"),
    ("src/daemon/a.c", "#include <sqlite3.h>\n", "<sqlite3.h> belongs to"),
    ("src/io/a.c", "#include <curl/curl.h>\n", "<curl/curl.h> belongs to"),
    ("src/daemon/a.c", "#include <cmocka.h>\n", "<cmocka.h> belongs to no layer"),
    ("src/core/a.c", "#include <unistd.h>\n", "core makes no system call: <unistd.h>"),
    ("src/core/a.c", "#include <time.h>\nlong f(void)\n{\n\treturn time(NULL);\n}\n", "time()"),
    ("src/base/a.h", "#include <stdint.h>\n#pragma once\n", "#pragma once is not the first"),
    ("src/base/a.h", '#pragma once\n#include "base/b.h"\n#include "base/c.h"\n', "umbrella"),
])
def test_layer_violation_is_named(tmp_path, name, text, complaint):
    code, out = run("check_layers", tmp_path, name, text)
    assert code == 1 and complaint in out


def test_layers_ignore_comments_and_strings(tmp_path):
    text = '/*\n#include <sqlite3.h>\n*/\n#include <time.h>\nconst char *a = "time(";\n'
    assert run("check_layers", tmp_path, "src/core/a.c", text)[0] == 0


def test_own_header_must_come_first(tmp_path):
    (tmp_path / "src/base").mkdir(parents=True)
    (tmp_path / "src/base/a.h").write_text("#pragma once\nint f(void);\n")
    code, out = run("check_layers", tmp_path, "src/base/a.c", '#include <stdint.h>\n#include "base/a.h"\n')
    assert code == 1 and "not its first include" in out


@pytest.mark.parametrize("text,complaint", [
    (function("\ta++;\n" * 81), "81 lines (at most 80)"),
    (function("\ta++;\n" * 41), "the 90th percentile is 41"),
    (function("\ta++;\n" * 16), "the median function has 16"),
    ("int f(int a, int b, int c, int d,\n      int e, int g, int h)\n{\n}\n", "7 parameters"),
    ("/* */\n" * 501 + function(""), "504 lines (at most 500)"),
    (function("\tif (a)\n\t\tif (a)\n\t\t\twhile (a)\n\t\t\t\tif (a)\n\t\t\t\t\ta++;\n"), "nested 4 deep"),
], ids=["longest", "percentile", "median", "parameters", "file", "nesting"])
def test_size_violation_is_named(tmp_path, text, complaint):
    code, out = run("check_size", tmp_path, "src/base/a.c", text)
    assert code == 1 and complaint in out


@pytest.mark.parametrize("text", [
    "int f(int (*cb)(int, int, int), int a[2], int c, int d, int e, int g)\n{\n}\n",
    function("\tif (a ||\n\t    a)\n\t\ta++;\n\tstatic const int t[] = {\n\t\t{\n\t\t\t{\n\t\t\t\t1,\n\t\t\t},\n\t\t},\n\t};\n"),
    function('\tputs("{");\n\t/*\n}\n{\n\t*/\n'),
], ids=["callback", "table", "literals"])
def test_size_accepts(tmp_path, text):
    assert run("check_size", tmp_path, "src/base/a.c", text)[0] == 0


def test_format_names_the_file(tmp_path):
    clang_format = "clang-format-14"
    (tmp_path / ".clang-format").write_text((HERE.parent / ".clang-format").read_text())
    assert run("check_format", tmp_path, "src/base/a.c", FORMATTED, clang_format)[0] == 0
    code, out = run("check_format", tmp_path, "src/base/a.c", FORMATTED.replace("\t", "  "), clang_format)
    assert code == 1 and "src/base/a.c: not formatted" in out


@pytest.mark.parametrize("text,complaint", [
    ("cd /" + "root/x\n", "an absolute home path"),
    ("x \n", "white space at a line's end"),
    ("-----BEGIN " + "PRIVATE KEY-----\n", "a private key"),
])
def test_text_violation_is_named(tmp_path, text, complaint):
    code, out = run("check_text", tmp_path, "docs/a.md", text)
    assert code == 1 and complaint in out


PLUGIN_CASE = "import pytest\n@pytest.mark.skip(reason='no second uid')\ndef test_a():\n    pass\n"


@pytest.mark.parametrize("forbid,code", [("1", 1), ("", 0)])
def test_a_forbidden_skip_is_a_failure(tmp_path, forbid, code):
    (tmp_path / "test_a.py").write_text(PLUGIN_CASE)
    env = {"PYTHONPATH": str(HERE), "KEYBROKER_FORBID_SKIPS": forbid, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no_skips", "-p", "no:cacheprovider",
                             str(tmp_path)], env=env, capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert not forbid or "skips are forbidden here: no second uid" in result.stdout


STUBS = {
    "cmake": "exit 0",
    "ctest": 'echo "100% tests passed"; [ "$2" != "$FAIL_UNIT" ]',
    "shellcheck": "exit 0",
    "scripts/install-deps.sh": "exit 0",
    "python": 'case $1 in tests/chaos/*) echo "ran torture"; [ -z "$FAIL_TORTURE" ]; exit;; esac\n'
              'preset=${KEYBROKER_BUILD##*/}; echo "ran $preset with ${ASAN_OPTIONS:+asan options}"\n'
              '[ "$preset" = "$FAIL_E2E" ] || { echo "3 passed in $preset"; exit 0; }\n'
              'echo "1 failed, 2 passed in $preset"; exit 1',
}


def run_test_sh(tmp_path, **env):
    """test.sh in a tree of its own, whose tools do nothing but fail where they are told to; -> code and lines."""
    for name, body in STUBS.items():
        stub = tmp_path / name if "/" in name else tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/bin/sh\n{body}\n")
        stub.chmod(0o755)
    script = (HERE.parent / "test.sh").read_text()
    assert "PYTHON=/usr/bin/python3 " in script
    (tmp_path / "test.sh").write_text(script.replace("PYTHON=/usr/bin/python3 ", "PYTHON=python "))
    done = subprocess.run(["bash", tmp_path / "test.sh"], capture_output=True, text=True, check=False,
                          env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "FAIL_UNIT": "", "FAIL_E2E": "", "FAIL_TORTURE": "", **env})
    return done.returncode, done.stdout.splitlines()


def test_test_sh_passes_and_ends_with_a_summary(tmp_path):
    code, lines = run_test_sh(tmp_path)
    assert code == 0 and lines[-1] == "3 passed in asan"
    assert "ran asan with asan options" in lines and "ran dev with " in lines and lines.count("ran torture") == 1


@pytest.mark.parametrize("env,name,last", [
    ({"FAIL_E2E": "dev"}, "tests/contract tests/e2e tests/clients (dev)", "1 failed, 2 passed in dev"),
    ({"FAIL_E2E": "asan"}, "tests/e2e tests/clients/test_scenarios.py (asan)", "1 failed, 2 passed in asan"),
    ({"FAIL_UNIT": "dev"}, "unit tests and checks (dev)", "3 passed in asan"),
    ({"FAIL_TORTURE": "1"}, "torture", "3 passed in asan"),
    ({"FAIL_UNIT": "dev", "FAIL_E2E": "dev"}, "unit tests and checks (dev), tests/contract tests/e2e tests/clients (dev)",
     "1 failed, 2 passed in dev"),
])
def test_a_failure_in_dev_does_not_hide_asan(tmp_path, env, name, last):
    code, lines = run_test_sh(tmp_path, **env)
    assert code == 1 and "ran asan with asan options" in lines
    assert lines[-2:] == [f"== FAILED: {name}", last]


@pytest.mark.parametrize("name", ["LITELLM_BASE_URL", "LITELLM_MASTER_KEY"])
def test_demo_with_half_a_litellm_does_not_take_the_stand_in(name):
    done = subprocess.run(["bash", HERE.parent / "demo.sh"], capture_output=True, text=True, check=False,
                          env={"PATH": "/usr/bin:/bin", name: "http://127.0.0.1:1"})
    assert done.returncode == 64 and "belong together" in done.stderr
