"""A library's driver program (clients/README.md, "The driver"): told what to do, line by line."""

import json
import os
import queue
import signal
import subprocess
import threading

CODES = {"invalid_request", "denied", "unknown_profile", "unknown_lease", "limit_exceeded", "upstream_unavailable", "upstream_refused",
         "audit_unavailable", "not_leader", "internal", "unreachable", "untrusted", "timeout", "lost", "garbage"}


class Refused(Exception):
    """An answer that is an error: its fields."""

    def __init__(self, error):
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.error = error


class Driver:
    """One process; its stdout and stderr are kept, to be searched for keys."""

    def __init__(self, program, env, log, prefix=()):
        self._log_path, self.said = log, ""
        with open(log, "ab") as stderr:
            self.process = subprocess.Popen([*prefix, str(program)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=stderr, cwd=os.path.dirname(log), start_new_session=True)
        self._lines = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.decode("utf-8", "replace"))
        self._lines.put(None)

    def send(self, **request):
        """Tells it something without waiting for the answer."""
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, timeout=60):
        """The next answer: its fields; raises Refused."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no answer within {timeout} s\n{self.stderr}") from None
        assert line is not None, f"it ended with {self.process.wait(10)}\n{self.stderr}"
        self.said += line
        answer = json.loads(line)
        assert isinstance(answer.get("ms"), (int, float)), f"without ms: {line}"
        if "error" in answer:
            raise Refused(self._checked(answer["error"] | {"ms": answer["ms"]}))
        return answer

    @staticmethod
    def _checked(error):
        """What holds for each error."""
        assert error.get("code") in CODES, f"no such code: {error}"
        assert error.get("message") and error.get("advice"), f"an error says what is wrong and what to do: {error}"
        return error

    def ask(self, **request):
        """Tells it something, and waits for the answer."""
        self.send(**request)
        return self.answer()

    @property
    def stderr(self):
        """All it wrote there."""
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def outputs(self):
        """All it wrote."""
        return {"the driver's stdout": self.said.encode(), "the driver's stderr": self.stderr.encode()}

    def end(self, timeout=10):
        """EOF on its stdin; -> its exit code."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it goes on {timeout} s after the end of its stdin\n{self.stderr}") from None
        while (line := self._lines.get(timeout=5)) is not None:
            self.said += line
        return code

    def kill(self):
        """It and its children, whatever they do."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)
