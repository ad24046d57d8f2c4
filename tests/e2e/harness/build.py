"""The binaries under test: those of KEYBROKER_BUILD, by default build/dev."""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("KEYBROKER_BUILD") or ROOT / "build/dev").resolve()
AUDIT_PROGRAM = "libexec/keybroker/audit"
SANITIZER_VARIABLES = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")


@functools.lru_cache
def binary(name):
    """The path of a built program; the newest if there are several."""
    found = sorted((path for path in BUILD.glob(f"**/{name}") if path.is_file() and os.access(path, os.X_OK)),
                   key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no {name} under {BUILD}: build it, or set KEYBROKER_BUILD")
    return str(found[-1])


@functools.lru_cache
def public_directory():
    """Copies of the programs where every uid may execute them (a checkout may be closed to others)."""
    directory = tempfile.mkdtemp(prefix="kb-bin-", dir="/tmp")
    os.chmod(directory, 0o755)
    for name in ("keybroker", "keybrokerd", AUDIT_PROGRAM):
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        shutil.copy(binary(name), path)
    return directory


def remove_public_directory():
    """Called once, at the end of the run."""
    if public_directory.cache_info().currsize:
        shutil.rmtree(public_directory(), ignore_errors=True)


@functools.lru_cache
def is_sanitized():
    """Does the daemon carry AddressSanitizer? Its memory and speed say little then."""
    with open(binary("keybrokerd"), "rb") as file:
        return b"__asan_init" in file.read()


def sanitizer_environment(**more):
    """What a sanitized program needs of our own environment. more: options to add to ASAN_OPTIONS."""
    env = {name: os.environ[name] for name in SANITIZER_VARIABLES if name in os.environ}
    if more and is_sanitized():
        options = [env["ASAN_OPTIONS"]] if "ASAN_OPTIONS" in env else []
        env["ASAN_OPTIONS"] = ":".join(options + [f"{name}={value}" for name, value in more.items()])
    return env


@functools.lru_cache
def fail_points():
    """The names of the testing build's fail points."""
    out = subprocess.run([binary("keybrokerd"), "--list-fail-points"], capture_output=True, text=True, check=True,
                         env=sanitizer_environment()).stdout
    return out.split()
