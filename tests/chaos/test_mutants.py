"""The patches of the mutants fit the sources as they are: what does not fit breaks nothing, and what slips in elsewhere
breaks something else."""

import sys

import pytest

import mutants
from harness.wait import wait_until


def test_each_patch_is_tried():
    assert {patch.stem for patch in (mutants.HERE / "mutants").iterdir()} == {
        name for mutant, (_, _, beside) in mutants.MUTANTS.items() for name in (mutant, *beside)}


@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_patches_fit_together(name):
    made = mutants.mutated([*mutants.MUTANTS[name][2], name])
    assert made and all(text != (mutants.ROOT / file).read_text(encoding="utf-8") for file, text in made.items())


PATCH = "--- a/a.c\n+++ b/a.c\n@@ -1,3 +1,2 @@\n f();\n\n-g();\n"


@pytest.mark.parametrize("text,made", [("f();\n\ng();\n", "f();\n\n"), ("f();\n g();\n", None), ("f();\n\ng();\n" * 2, None)],
                         ids=["fits", "other context", "twice"])
def test_patch_that_does_not_fit_is_named(tmp_path, monkeypatch, text, made):
    for name in ("ROOT", "HERE"):
        monkeypatch.setattr(mutants, name, tmp_path)
    (tmp_path / "mutants").mkdir()
    (tmp_path / "mutants/m.patch").write_text(PATCH)
    (tmp_path / "a.c").write_text(text)
    if made:
        assert mutants.mutated(["m"]) == {"a.c": made}
    else:
        with pytest.raises(mutants.NotTried, match="m.patch does not fit a.c"):
            mutants.mutated(["m"])


def state(pid):
    """One letter of a process; "" of none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_what_a_run_started_ends_with_it(tmp_path):
    """The orphan keeps the log open, and goes on for an hour."""
    log = tmp_path / "log"
    script = "import subprocess; print(subprocess.Popen(['sleep', '3600']).pid, flush=True); raise SystemExit('no start')"
    mutants.alone([sys.executable, "-c", script], 60, log, None)
    pid, said = log.read_text().split("\n", 1)
    assert "no start" in said
    wait_until(lambda: state(pid) in "Z", what="its end")  # nobody may reap it here


def test_run_that_goes_on_for_too_long_is_ended(tmp_path):
    mutants.alone(["sleep", "3600"], 0.1, tmp_path / "log", None)
