"""The torture run: instances over one state, clients that keep books, a nemesis, and a checker that reads the books.

usage: run.py [MINUTES] [NAME=VALUE...]     KEYBROKER_BUILD names the binaries (default build/dev)

NAME is a member of cluster.Plan (instances, clients, lanes, rate, dedicated, give_up, probe_usec, gap, seed,
namespaces, slow_disk: microseconds, keep), a kind of event of nemesis.WEIGHTS with its weight, or a member of the broker's
struct timing. The last line is the verdict; exit code 1 means that something was violated.
"""

import os
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("KEYBROKER_BUILD", str(HERE.parents[1] / "build/dev"))
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e"), str(HERE.parent / "standin")]

from checker import Checker, report  # noqa: E402
from cluster import Cluster, Plan  # noqa: E402
from nemesis import WEIGHTS, Nemesis  # noqa: E402


def plan_of(wanted):
    """The plan with these members, weights and times."""
    plan = Plan()
    for name, value in wanted.items():
        if name in vars(plan):
            setattr(plan, name, value)
        elif name in WEIGHTS or name == "only":
            plan.weights[name] = value
        else:
            plan.timing[name] = value
    return plan


def wanted_by(arguments):
    """A command line's words as names and numbers."""
    wanted = {}
    for argument in arguments:
        name, _, value = argument.rpartition("=")
        wanted[name or "minutes"] = float(value) if "." in value or not name else int(value)
    return wanted


def say(text):
    """At once, also into a pipe."""
    print(text, flush=True)


def torture(plan):
    """One run; -> {check: evidence}."""
    cluster = Cluster(plan)
    try:
        cluster.start()
        say(f"{plan.minutes:g} minutes, {plan.instances} instances, {len(cluster.clients)} clients of uids "
            f"{', '.join(str(uid) for uid in sorted(set(cluster.uids)))}, seed {plan.seed}"
            + ("" if cluster.mounted else "; without root no full disk") + ("" if cluster.can_shift else "; no clock is set"))
        nemesis = Nemesis(cluster)
        nemesis.run(plan.minutes * 60, lambda: say(f"… {len(cluster.events.all)} events, term {cluster.leader()[0]}"))
        checker = Checker(cluster, cluster.quiet())
        found = checker.violations()
        for line in report(checker, found):
            say(line)
        if found and plan.keep:
            say(f"what is left of it: {cluster.keep_evidence()}")
        return found
    finally:
        cluster.close()


def mutant(seconds, scenario):
    """A short run for mutants.py; the last line names the checks that complained."""
    found = torture(plan_of({"minutes": seconds / 60, **scenario}))
    say("found: " + " ".join(found))


def main(arguments):
    """-> the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # everything is ended and removed then too
    found = torture(plan_of(wanted_by(arguments)))
    if found:
        print(f"chaos: VIOLATED: {', '.join(found)}")
        return 1
    print("chaos: nothing was violated")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
