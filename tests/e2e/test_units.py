"""The units, users and directories as they are installed, judged by systemd's own tools."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from harness import build, service
from harness.users import need_root

UNITS = {"system": ["keybrokerd.socket", "keybrokerd-admin.socket", "keybrokerd.service", "keybrokerd@a.service"],
         "user": ["keybrokerd.socket", "keybrokerd.service", "keybrokerd@a.service"]}


@pytest.fixture(name="prefix")
def fixture_prefix(tmp_path):
    """Installed into tmp_path, with what the units name of the system; -> where lib/ and sbin/ are."""
    for name in ("true", "kill"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.touch(0o755)
    for manager in UNITS:
        directory = tmp_path / "usr/lib/systemd" / manager
        directory.mkdir(parents=True)
        for name in ("sysinit", "basic", "shutdown", "sockets"):
            (directory / f"{name}.target").write_text("[Unit]\n")
    return service.install(tmp_path)


def verify(root, prefix, manager, units=None):
    """All that systemd-analyze has to say; its exit code says nothing about most of its complaints."""
    where, env = [f"--root={root}"], {**os.environ, "XDG_RUNTIME_DIR": str(root), "SYSTEMD_LOG_LEVEL": "info"}
    if manager == "user":  # it takes no --root
        where, copies = ["--user"], root / "copies"
        copies.mkdir()
        for unit in (prefix / "lib/systemd/user").iterdir():
            (copies / unit.name).write_text(re.sub("^(Exec.*=)/", rf"\1{root}/", unit.read_text(), flags=re.M))
        env["SYSTEMD_UNIT_PATH"] = f"{copies}:{root}/usr/lib/systemd/user"
    done = subprocess.run(["systemd-analyze", "verify", *where, "--man=no", *(units or UNITS[manager])], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, env=env)
    return done.stdout + (f"exit code {done.returncode}" if done.returncode else "")


@pytest.mark.parametrize("manager", UNITS)
def test_units_verify(prefix, tmp_path, manager):
    assert sorted(path.name.replace("@", "@a") for path in (prefix / "lib/systemd" / manager).iterdir()) == sorted(UNITS[manager])
    assert verify(tmp_path, prefix, manager) == ""


def example(root, prefix):
    """The unit of docs/examples and what it names, among the installed units; -> its path."""
    program = root / "opt/web-assistant/server.py"
    program.parent.mkdir(parents=True)
    program.touch()
    for path in ("usr/bin/python3", "usr/local/bin/keybroker"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch(0o755)
    return pathlib.Path(shutil.copy(build.ROOT / "docs/examples/web-assistant.service", prefix / "lib/systemd/system"))


@pytest.mark.parametrize("good, bad, complaint", [
    ("", "", ""), ("IntervalSec=0", "IntervalSec=none", "Failed to parse"),
    ("Prevent", "Hinder", "Unknown key 'RestartHinderExitStatus'"), ("bin/keybroker ", "bin/keybreaker ", "is not executable")])
def test_example_unit_verifies(prefix, tmp_path, good, bad, complaint):
    unit = example(tmp_path, prefix)
    text = unit.read_text()
    assert good in text
    unit.write_text(text.replace(good, bad))
    said = verify(tmp_path, prefix, "system", [unit.name])
    assert complaint in said if complaint else said == ""


@pytest.mark.parametrize("manager", UNITS)
@pytest.mark.parametrize("name, good, bad, complaint", [
    ("keybrokerd@.service", "NoNewPrivileges=", "NoNewPriviledges=", "Unknown key 'NoNewPriviledges'"),
    ("keybrokerd@.service", "Restart=on-failure", "Restart=sometimes", "Failed to parse service restart specifier"),
    ("keybrokerd@.service", "/sbin/keybrokerd ", "/sbin/keybroker-d ", "is not executable"),
    ("keybrokerd@.service", "@system-service", "@system-servise", "system-servise"),
    ("keybrokerd.socket", "SocketMode=06", "SocketMode=09", "Failed to parse mode value"),
    ("keybrokerd.socket", "[Socket]", "[Socket]\nService=keybroker.service", "keybroker.service"),
])
def test_verify_finds_what_is_wrong(prefix, tmp_path, manager, name, good, bad, complaint):
    """The check above can fail."""
    unit = prefix / "lib/systemd" / manager / name
    text = unit.read_text()
    assert good in text
    unit.write_text(text.replace(good, bad))
    assert complaint in verify(tmp_path, prefix, manager)


def test_units_start_what_was_installed(prefix, tmp_path):
    for manager in UNITS:
        unit = service.Unit(prefix / "lib/systemd" / manager / "keybrokerd@.service")
        program = unit["ExecStart"].split()[0]
        assert os.access(tmp_path / program.lstrip("/"), os.X_OK), program


def test_users_and_groups(prefix, tmp_path):
    assert (prefix / "lib/sysusers.d/keybroker.conf").exists()
    (tmp_path / "etc").mkdir(exist_ok=True)
    need_root()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], check=True, capture_output=True)
    users = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    groups = {line.split(":")[0]: line.split(":") for line in (tmp_path / "etc/group").read_text().splitlines()}
    (name, _, _, gid, _, home, shell), = users
    assert (name, home, shell) == ("keybroker", "/var/lib/keybroker", "/usr/sbin/nologin")
    assert groups["keybroker"][2] == gid and groups["keybroker-clients"][3] == "keybroker"


def test_directories(prefix, tmp_path):
    need_root()
    assert (prefix / "lib/tmpfiles.d/keybroker.conf").exists()
    service.make_directories(tmp_path)
    made = {}
    for name in ("run/keybroker", "run/keybroker-admin", "etc/keybroker", "var/lib/keybroker"):
        status = pathlib.Path(tmp_path, name).stat()
        made[name] = (status.st_mode & 0o7777, status.st_uid, status.st_gid)
    assert made == {"run/keybroker": (0o755, service.UID, service.UID), "etc/keybroker": (0o755, 0, 0),
                    "run/keybroker-admin": (0o700, service.UID, service.UID),
                    "var/lib/keybroker": (0o700, service.UID, service.UID)}
