"""Does the torture run find what it is there to find? Breaks the broker in each way that mutants/ has a patch for, builds
that in a tree of its own, lets the nemesis do what such a fault should not survive, and expects the checker to complain.

usage: mutants.py [--sound] [NAME...]     the last line is the verdict; exit code 1: a mutant got away

--sound puts the broker as it is through the same runs: it must not be blamed.
"""

import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLACE = ROOT / "build/mutants"
SECONDS = 45
LATE = [{"path": "/key/generate", "delay_ms": 5000}]
UNANSWERED = [{"path": "/key/info", "delay_ms": 1200}]
FENCE = {"namespaces": 1, "only": 1, "stop_leader": 1, "gap": 0.3, "dedicated": 150, "instances": 2}
MINTS = {"dedicated": 150, "give_up": 100, "only": 1, "kill_leader": 4, "upstream": 8, "gap": 0.4}

# name -> (patches, the checks of which one must complain, what the run is biased to). Fence and triggers stand in for one
# another: whoever passes one is stopped by the other. So each is taken out with the other one gone already.
MUTANTS = {
    "no-fence": (["no-trigger", "no-fence"], {"fence"}, FENCE),
    "no-trigger": (["no-fence", "no-trigger"], {"fence"}, FENCE),
    "wall-clock-in-lease": (["wall-clock-in-lease"], {"clock"}, {"only": 1, "clock": 1, "gap": 2.0}),
    "wall-clock-in-leadership": (["wall-clock-in-leadership"], {"usurped"}, {"only": 1, "clock": 1, "gap": 2.0}),
    "unguarded-checkpoint": (["unguarded-checkpoint"], {"checkpoint"},
                             {"only": 1, "hup": 1, "checkpoint_every_ms": 20, "slow_disk": 8000}),
    "delete-instead-of-burn": (["delete-instead-of-burn"], {"upstream"}, {**MINTS, "rules": LATE}),
    "burn-without-block": (["burn-without-block"], {"upstream"}, {**MINTS, "rules": UNANSWERED, "burn_delete_ms": 120000}),
    "clean-up-by-alias": (["clean-up-by-alias"], {"upstream"}, {"dedicated": 150, "only": 1, "namesake": 1, "gap": 0.1}),
    "predecessor-not-killed": (["predecessor-not-killed"], {"predecessor"}, {"only": 1, "stop_leader": 1}),
    "reply-before-commit": (["reply-before-commit"], {"lost"},
                            {"only": 1, "kill_leader": 1, "slow_disk": 5000, "gap": 0.3}),
}


def sync(tree):
    """The tree's sources become this tree's; what is the same keeps its time, so that it is not built again."""
    wanted = ("CMakeLists.txt", "cmake", "src", "proto", "clients", "tests/bench")
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", *wanted], check=True,
                           capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        data, to = (ROOT / name).read_bytes(), tree / name
        if not to.exists() or to.read_bytes() != data:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(data)


def built(patches):
    """Builds keybrokerd with the patches; -> the build's directory."""
    tree, out = PLACE / "tree", PLACE / "build"
    sync(tree)
    for name in patches:
        subprocess.run(["patch", "-s", "-p1", "--no-backup-if-mismatch", "-d", str(tree),
                        "-i", str(HERE / f"mutants/{name}.patch")], check=True)
    if not (out / "build.ninja").exists():
        subprocess.run(["cmake", "-G", "Ninja", "-S", str(tree), "-B", str(out), "-DCMAKE_BUILD_TYPE=Debug",
                        "-DKEYBROKER_TESTING=ON", "-DKEYBROKER_TESTS=OFF"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(out), "--target", "keybrokerd", "keybroker", "-j", str(os.cpu_count())],
                   check=True, stdout=subprocess.DEVNULL)
    return out


def run(patches, scenario):
    """One biased run in a process of its own, since the binaries are chosen once; -> (checks that complained, its words)."""
    client = next((pathlib.Path(os.environ.get("KEYBROKER_BUILD", ROOT / "build/dev"))).glob("**/chaos_client"))
    out = built(patches)
    (out / "chaos_client").unlink(missing_ok=True)
    (out / "chaos_client").hardlink_to(client)
    scenario = {"patience": 15, "keep": 0, **scenario}
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import run; run.mutant({SECONDS}, {scenario!r})"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "KEYBROKER_BUILD": str(out)}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if not last.startswith("found:"):
        return set(), f"VIOLATED nothing, for the run failed\n{done.stdout}"
    return set(last.removeprefix("found:").split()), done.stdout


def judge(name, sound):
    """Runs one mutant, or the sound broker where a mutant would be; -> was it as it should be? Prints why."""
    patches, expected, scenario = MUTANTS[name]
    begin = time.monotonic()
    found, words = run([] if sound else patches, scenario)
    good = not found and "VIOLATED" not in words if sound else bool(expected & found)
    verdict = ("nothing found" if good else "BLAMED") if sound else (
        "caught by " + ", ".join(sorted(expected & found)) if good else "GOT AWAY")
    beside = sorted(found - expected if not sound else found)
    print(f"{name:<26} {verdict}{', also ' + ', '.join(beside) if beside else ''}, {time.monotonic() - begin:.0f} s", flush=True)
    if found or not good:
        evidence = (line for line in words.splitlines() if "VIOLATED" in line or line.startswith("    "))
        print("\n".join("    " + line for line in evidence), flush=True)
    return good


def main(arguments):
    """-> the exit code."""
    sound = "--sound" in arguments
    bad = [name for name in [word for word in arguments if word != "--sound"] or MUTANTS if not judge(name, sound)]
    end = ("the sound broker was not blamed", "the sound broker was BLAMED") if sound else ("each was caught", "GOT AWAY")
    print(f"mutants: {end[1]}: {', '.join(bad)}" if bad else f"mutants: {end[0]}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
