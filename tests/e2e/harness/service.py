"""What systemd does with the installed units, as far as a daemon sees it: directories, sockets, users, readiness."""

import contextlib
import os
import pathlib
import shlex
import shutil
import socket
import struct
import subprocess

from harness import build
from harness.wait import wait_until

UID, CLIENTS = 54330, 54331  # of the user keybroker, of the group keybroker-clients
PASSWD = f"root:x:0:0::/root:/bin/sh\nkeybroker:x:{UID}:{UID}::/:/usr/sbin/nologin\n"
GROUP = f"root:x:0:\nkeybroker:x:{UID}:\nkeybroker-clients:x:{CLIENTS}:keybroker\n"


def install(root):
    """`cmake --install` into a root directory; -> where everything below the prefix is."""
    subprocess.run(["cmake", "--install", str(build.BUILD)], env={**os.environ, "DESTDIR": str(root)}, check=True,
                   stdout=subprocess.DEVNULL)
    return next(pathlib.Path(root).glob("**/lib/tmpfiles.d/keybroker.conf")).parents[2]


def make_directories(root):
    """The directories that tmpfiles.d promises, with the owners that sysusers.d promises."""
    etc = pathlib.Path(root, "etc")
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(PASSWD, encoding="ascii")
    (etc / "group").write_text(GROUP, encoding="ascii")
    subprocess.run(["systemd-tmpfiles", f"--root={root}", "--create", "keybroker.conf"], check=True)


class Unit:
    """A unit file: all values of a key, in order."""

    def __init__(self, path):
        lines = [line.split("=", 1) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()
                 if "=" in line and line[0] not in "#;["]
        self.values = {}
        for key, value in lines:
            self.values.setdefault(key, []).append(value)

    def __getitem__(self, key):
        return self.values[key][-1]

    def get(self, key, default=None):
        """The last value."""
        return self.values.get(key, [default])[-1]

    def words(self, key):
        """All words of all values."""
        return " ".join(self.values.get(key, [])).split()


class Manager:
    """The units of the system manager, installed into a Broker's root, which has their directories then."""

    def __init__(self, broker, litellm):
        self.broker, self.processes, self.said = broker, {}, {}
        shutil.rmtree(broker.path("run"))
        self.units = install(broker.root) / "lib/systemd/system"
        make_directories(broker.root)
        self.service = Unit(self.units / "keybrokerd@.service")
        self.config = broker.path("etc/keybroker/keybroker.conf")
        pathlib.Path(self.config).write_text(f'rule "clients" {{ group = {CLIENTS} profiles = {{ "*" }} }}\n', encoding="utf-8")
        self.env = {**build.sanitizer_environment(), "PATH": "/usr/bin:/bin", "LITELLM_BASE_URL": litellm.url,
                    "NOTIFY_SOCKET": broker.path("notify"), "RUNTIME_DIRECTORY": broker.path("run/keybroker"),
                    "STATE_DIRECTORY": self._owned("state/keybroker", int(self.service["StateDirectoryMode"], 8)),
                    "CREDENTIALS_DIRECTORY": self._credentials(master_key=litellm.master_key, seal_key=os.urandom(32).hex())}
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.notify.bind(self.env["NOTIFY_SOCKET"])
        os.chmod(self.env["NOTIFY_SOCKET"], 0o666)
        self.sockets = [self._listen(Unit(self.units / name)) for name in self.service.words("Sockets")]

    def _owned(self, name, mode):
        path = self.broker.path(name)
        os.makedirs(path)
        os.chown(path, UID, UID)
        os.chmod(path, mode)
        return path

    def _credentials(self, **secrets):
        """Those that the unit loads."""
        directory = self._owned("credentials", 0o500)
        for name in (word.split(":")[0] for word in self.service.words("LoadCredential")):
            path = pathlib.Path(directory, name)
            path.write_text(secrets[name] + "\n", encoding="ascii")
            os.chown(path, UID, UID)
            path.chmod(0o400)
        return directory

    def _listen(self, unit):
        path = self.broker.path(unit["ListenStream"].lstrip("/"))
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listening.bind(path)
        os.chown(path, {"keybroker": UID}[unit["SocketUser"]],
                 {"keybroker": UID, "keybroker-clients": CLIENTS}[unit["SocketGroup"]])
        os.chmod(path, int(unit["SocketMode"], 8))
        listening.listen(int(unit["Backlog"]))
        return listening

    def spawn(self, name, **popen):
        """Starts an instance as the unit says, without waiting; -> the process."""
        argv = [word.replace("%i", name) for word in shlex.split(self.service["ExecStart"])]
        argv[0] = os.path.join(build.public_directory(), "keybrokerd")
        fds = [one.fileno() for one in self.sockets]
        moves = " ".join(f"{3 + i}<&{fd} {fd}<&-" for i, fd in enumerate(fds))
        for one in self.sockets:  # systemd does, at each start, to the open file that all instances have
            one.setblocking(self.service.get("NonBlocking", "no") != "yes")
        with open(self.broker.path(f"log-{name}"), "ab") as log:
            self.processes[name] = subprocess.Popen(
                ["bash", "-c", f'exec {moves}; LISTEN_PID=$$ LISTEN_FDS={len(fds)} exec "$@"', "bash", *argv,
                 "--config", self.config], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                pass_fds=fds, user=UID, group=UID, extra_groups=[CLIENTS], **popen)
        return self.processes[name]

    def start(self, *names):
        """Starts instances one after the other, each once the one before it has said READY=1."""
        for name in names:
            process = self.spawn(name)
            wait_until(lambda: "READY=1" in self.heard(process.pid) or process.poll() is not None,
                       what=lambda: self.log(name))
            assert process.poll() is None, self.log(name)

    def heard(self, pid):
        """All lines that a process has told."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, control, _, _ = self.notify.recvmsg(4096, socket.CMSG_SPACE(12))
                sender = struct.unpack("3i", control[0][2])[0]
                self.said.setdefault(sender, []).extend(data.decode().splitlines())
        return self.said.get(pid, [])

    def log(self, name):
        """All that an instance wrote."""
        return pathlib.Path(self.broker.path(f"log-{name}")).read_text(encoding="utf-8", errors="replace")

    def leader(self):
        """The name of the instance that answers."""
        pid = self.broker.admin("status")["pid"]
        return next(name for name, process in self.processes.items() if process.pid == pid)

    def close(self):
        """Ends all."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(10)
        for one in (*self.sockets, self.notify):
            one.close()
