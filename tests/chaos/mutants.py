"""Does the torture run find what it is there to find? Breaks the broker in each way that mutants/ has a patch for, builds
that in a tree of its own, lets the nemesis do what such a fault should not survive, and expects the checker to complain.

usage: mutants.py [--sound] [NAME...]     the last line is the verdict; exit code 1: a mutant got away, or could not be tried

--sound leaves the fault itself out of the same builds and runs: then nobody must be blamed.
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLACE = ROOT / "build/mutants"
SECONDS, PATIENCE = 45, 120  # of the run; for its start and its end
LATE = [{"path": "/key/generate", "delay_ms": 5000}]
UNANSWERED = [{"path": "/key/info", "delay_ms": 1200}]
FENCE = {"namespaces": 1, "only": 1, "stop_leader": 1, "gap": 0.3, "dedicated": 150, "instances": 2}
MINTS = {"dedicated": 150, "give_up": 100, "only": 1, "kill_leader": 4, "upstream": 8, "gap": 0.4}

# name -> (the checks of which one must complain, what the run is biased to, what else must be out of the way)
MUTANTS = {
    # Four things stop a stale leader, and each is enough: the fence before a transaction, the triggers, the beat that finds
    # the row another's, and the audit's head in memory, whose next sequence is taken. So the other three are gone already.
    "no-fence": ({"fence"}, FENCE, ["no-trigger", "no-beat-fence", "audit-head-read-again"]),
    "no-trigger": ({"fence"}, FENCE, ["no-fence", "no-beat-fence", "audit-head-read-again"]),
    "wall-clock-in-lease": ({"clock"}, {"only": 1, "clock": 1, "gap": 2.0}, []),
    "wall-clock-in-leadership": ({"usurped"}, {"only": 1, "clock": 1, "gap": 2.0}, []),
    "unguarded-checkpoint": ({"checkpoint"}, {"only": 1, "hup": 1, "checkpoint_every_ms": 20, "slow_disk": 8000}, []),
    "delete-instead-of-burn": ({"upstream"}, {**MINTS, "rules": LATE}, []),
    "burn-without-block": ({"upstream"}, {**MINTS, "rules": UNANSWERED, "burn_delete_ms": 120000}, []),
    "clean-up-by-alias": ({"upstream"}, {"dedicated": 150, "only": 1, "namesake": 1, "gap": 0.1}, []),
    "predecessor-not-killed": ({"predecessor"}, {"only": 1, "stop_leader": 1}, []),
    "reply-before-commit": ({"lost"}, {"only": 1, "kill_leader": 1, "slow_disk": 5000, "gap": 0.3}, []),
}


class NotTried(Exception):
    """A mutant could not be made or run; what to do about it."""


def hunks(patch):
    """-> (file, its line, the lines as they are, the lines as they shall be) of each place that a patch changes."""
    for part in re.split(r"^--- a/", patch.read_text(encoding="ascii"), flags=re.M)[1:]:
        name, _, rest = part.partition("\n")
        for at, body in re.findall(r"^@@ -(\d+).*\n((?:[^@\n].*\n|\n)*)", rest, flags=re.M):
            lines = body.splitlines()
            yield (name, at, *("".join(line[1:] + "\n" for line in lines if line[:1] != other) for other in "+-"))


def mutated(names):
    """What the patches make of the sources, {file: text}. There is no fuzz: all old lines must be there, and but once."""
    made = {}
    for name in names:
        for file, at, old, new in hunks(HERE / f"mutants/{name}.patch"):
            text = made.get(file) or (ROOT / file).read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise NotTried(f"{name}.patch does not fit {file} any more: what it changes at line {at} is there "
                               f"{text.count(old)} times. Make the patch anew")
            made[file] = text.replace(old, new)
    return made


def sync(tree, made):
    """The tree's sources become this tree's but for what is `made`; what is the same keeps its time and is not built again."""
    wanted = ("CMakeLists.txt", "cmake", "src", "proto", "clients", "systemd", "tests/bench")
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", *wanted], check=True,
                           capture_output=True).stdout.decode().split("\0")
    for name in filter(None, names):
        data, to = made[name].encode() if name in made else (ROOT / name).read_bytes(), tree / name
        if not to.exists() or to.read_bytes() != data:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(data)


def built(patches):
    """Builds all programs with the patches; -> the build's directory."""
    tree, out, log = PLACE / "tree", PLACE / "build", PLACE / "build.log"
    PLACE.mkdir(parents=True, exist_ok=True)
    sync(tree, mutated(patches))
    with open(log, "wb") as file:
        for command in (["cmake", "-G", "Ninja", "-S", tree, "-B", out, "-DCMAKE_BUILD_TYPE=Debug", "-DKEYBROKER_TESTING=ON",
                         "-DKEYBROKER_TESTS=OFF"], ["cmake", "--build", out, "-j", str(os.cpu_count())]):
            if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False).returncode != 0:
                raise NotTried(f"it cannot be built:\n{tail(log)}")
    return out


def tail(path):
    """The last lines of a log."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])


def alone(command, seconds, log, env):
    """Runs a command to its end or for so long. It has a process group of its own, of which nothing is left afterwards."""
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env, start_new_session=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # it removes what it made
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(name, patches, scenario):
    """One biased run in a process of its own, since the binaries are chosen once; -> (checks that complained, its words, the
    seconds that it took)."""
    client = next((pathlib.Path(os.environ.get("KEYBROKER_BUILD", ROOT / "build/dev"))).glob("**/chaos_client"), None)
    if not client:
        raise NotTried("there is no chaos_client: build dev, or set KEYBROKER_BUILD")
    out, log = built(patches), PLACE / f"{name}.log"
    (out / "chaos_client").unlink(missing_ok=True)
    (out / "chaos_client").hardlink_to(client)
    begin = time.monotonic()
    scenario = {"patience": 15, "keep": 0, **scenario}
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import run; run.mutant({SECONDS}, {scenario!r})"
    alone([sys.executable, "-c", code], SECONDS + PATIENCE, log, {**os.environ, "KEYBROKER_BUILD": str(out)})
    words = log.read_text(encoding="utf-8", errors="replace")
    last = words.strip().splitlines()[-1] if words.strip() else ""
    if not last.startswith("found:"):
        raise NotTried(f"the run failed:\n{tail(log)}")
    return set(last.removeprefix("found:").split()), words, time.monotonic() - begin


def judge(name, sound):
    """Runs one mutant, or its run without the fault; -> what is wrong, "" if all was as it should be. Prints why."""
    expected, scenario, beside = MUTANTS[name]
    try:
        found, words, seconds = run(name, beside if sound else [*beside, name], scenario)
    except NotTried as error:
        print(f"{name:<26} NOT TRIED: {error}", flush=True)
        return "NOT TRIED"
    if sound:
        bad, good = "BLAMED" if found else "", "nothing found"
    else:
        bad, good = "" if expected & found else "GOT AWAY", "caught by " + ", ".join(sorted(expected & found))
    others = sorted(found if sound else found - expected)
    print(f"{name:<26} {bad or good}{', also ' + ', '.join(others) if others else ''}, {seconds:.0f} s", flush=True)
    evidence = (line for line in words.splitlines() if "VIOLATED" in line or line.startswith("    "))
    print("\n".join("    " + line for line in evidence), end="\n" if found else "", flush=True)
    return bad


def main(arguments):
    """-> the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a run that is under way ends with us
    sound = "--sound" in arguments
    verdicts = {name: judge(name, sound) for name in [word for word in arguments if word != "--sound"] or MUTANTS}
    bad = ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items() if verdict)
    print("mutants: " + (bad or ("the sound broker was not blamed" if sound else "each was caught")))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
