"""The libraries, each installed once by its tests/install.sh from the artefact that its registry would get.

KEYBROKER_CLIENTS="python go" chooses some; without it all that have an install.sh."""

import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
LANGUAGES = ("c", "python", "node", "go")
INSTALLED = ROOT / "build/clients"
# What a library is made of, beside its own folder.
SOURCES = {"c": ("src/base", "proto", "cmake", "CMakeLists.txt", "CMakePresets.json"), **dict.fromkeys(LANGUAGES[1:], ("proto",))}
NOT_SOURCES = {"node_modules", "__pycache__", "build", "dist"}
MISSING_TOOLCHAIN = 69


class Missing(Exception):
    """The language's toolchain is not there."""


def wanted():
    """The languages to test."""
    chosen = os.environ.get("KEYBROKER_CLIENTS", "").split()
    unknown = set(chosen) - set(LANGUAGES)
    assert not unknown, f"KEYBROKER_CLIENTS: no such client: {', '.join(unknown)}"
    return [language for language in LANGUAGES if language in chosen or not chosen and script(language).exists()]


def script(language):
    """What installs it."""
    return ROOT / "clients" / language / "tests/install.sh"


@functools.lru_cache
def install(language):
    """Installs it unless that was done with the same sources; -> the folder. Another worker of the same run waits meanwhile."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    place, stamp, failure = (INSTALLED / (language + end) for end in ("", ".installed", ".failed"))
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "alone")
    with open(INSTALLED / (language + ".lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = _digest(language)
        if _text(stamp) == digest and place.is_dir():
            return place
        if run != "alone" and _text(failure).startswith(run):
            raise AssertionError(_text(failure))
        stamp.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        try:
            _run(language, place)
        except AssertionError as problem:
            failure.write_text(f"{run}: {problem}", encoding="utf-8")
            raise
        stamp.write_text(digest, encoding="ascii")
    return place


def _run(language, place):
    log = INSTALLED / (language + ".log")
    with open(log, "wb") as file:
        done = subprocess.run([script(language), place], stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=1800, check=False)
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    if done.returncode == MISSING_TOOLCHAIN:
        raise Missing(said.splitlines()[-1] if said else "its toolchain is missing")
    assert done.returncode == 0, f"clients/{language}/tests/install.sh ended with {done.returncode}:\n{said[-4000:]}"


def _digest(language):
    """A hash of all that it is made of."""
    digest = hashlib.sha256()
    for top in (f"clients/{language}", *SOURCES[language]):
        for path in sorted(_files(ROOT / top)):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode:o}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def _files(top):
    if top.is_file():
        yield top
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in NOT_SOURCES and not name.startswith(".")]
        yield from (pathlib.Path(folder, name) for name in names)


def _text(path):
    return path.read_text(encoding="utf-8") if path.exists() else ""
