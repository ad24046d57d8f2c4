"""A file system that is soon full."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(broker):
    """The state on a file system of 8 MiB."""
    small = broker.path("state")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", small], check=False,
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip("needs mount(2) for a small file system")
    try:
        yield
    finally:
        if broker.running:
            broker.kill()
        subprocess.run(["umount", "-l", small], check=True)
