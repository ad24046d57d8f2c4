"""What a call through each client library costs, beside a bare socket in the same language. run.py shows it."""

import json
import subprocess

from stage import languages

CACHED_NS = {"c": 1000, "go": 1000, "python": 2000, "node": 2000}
RATIO = 2


def show(figures, broker, seconds):
    """A row for each language, then the figures that have a limit."""
    rows = {}
    for language in languages.wanted():
        try:
            rows[language] = _run(languages.install(language) / "bench", broker, seconds)
        except languages.Missing as missing:
            print(f"{language}: {missing}")
    print(f"{'client':<8}{'cached ns':>12}{'warm p50 µs':>14}{'p99':>10}{'bare p50 µs':>14}{'p99':>10}{'ratio':>8}")
    for language, row in rows.items():
        warm, bare = row["warm_us"], row["bare_us"]
        print(f"{language:<8}{row['cached_ns']:>12.0f}{warm['p50']:>14.1f}{warm['p99']:>10.1f}{bare['p50']:>14.1f}{bare['p99']:>10.1f}"
              f"{warm['p50'] / bare['p50']:>8.2f}")
    for language, row in rows.items():
        figures.add(f"{language}: a key in memory", row["cached_ns"], "ns", CACHED_NS[language])
        figures.add(f"{language}: a warm acquire, times a bare round trip, p50", row["warm_us"]["p50"] / row["bare_us"]["p50"], "", RATIO)


def _run(program, broker, seconds):
    done = subprocess.run([program, str(seconds)], env=broker.cli_env(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=20 * seconds + 60, check=False, cwd="/")
    assert done.returncode == 0, done
    return json.loads(done.stdout.splitlines()[-1])
