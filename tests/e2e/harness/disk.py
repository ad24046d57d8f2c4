"""A file system that is soon full."""

import contextlib
import os
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


@contextlib.contextmanager
def failing_disk(broker):
    """The state on an ext4 of its own; yields what makes it read-only under whoever uses it, as an error of the disk does."""
    state, image = broker.path("state"), broker.path("image")
    subprocess.run(["truncate", "-s", "64M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    mounted = subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, state], check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip("needs mount(2) and a loop device for a file system of its own")
    device = subprocess.run(["findmnt", "-n", "-o", "SOURCE", state], check=True, capture_output=True, text=True).stdout.strip()

    def fail():
        with open(f"/sys/fs/ext4/{os.path.basename(device)}/trigger_fs_error", "w", encoding="ascii") as trigger:
            trigger.write("by a test")

    try:
        os.chmod(state, 0o755)
        yield fail
    finally:
        if broker.running:
            broker.kill()
        subprocess.run(["umount", "-l", state], check=True)
