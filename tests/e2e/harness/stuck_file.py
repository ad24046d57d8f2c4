"""A file whose close() waits: of a FUSE file system that does not answer FLUSH until it is told to (root only)."""

import contextlib
import ctypes
import os
import stat
import struct
import threading

GETATTR, OPEN, FLUSH, RELEASE, FORGET, INIT = 3, 14, 25, 18, 2, 26  # include/uapi/linux/fuse.h
ENOSYS = 38
BUFFER = 1 << 17  # at least FUSE_MIN_READ_BUFFER and a page more
MNT_DETACH = 2

ANSWERS = {
    INIT: (0, struct.pack("=IIIIHHIIHHI7I", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0, *[0] * 7)),
    GETATTR: (0, struct.pack("=QII6Q10I", 60, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o644, 1, 0, 0, 0, 4096, 0)),
    OPEN: (0, struct.pack("=QII", 1, 0, 0)),
    RELEASE: (0, b""),
}

_libc = ctypes.CDLL(None, use_errno=True)


class StuckFile:
    """At `path` while it lasts. `waiting`: the close() calls that are not answered."""

    def __init__(self, path):
        self.path, self.waiting, self._answers, self._fd = path, [], dict(ANSWERS), os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        with open(path, "wb"):
            pass
        options = f"fd={self._fd},rootmode={stat.S_IFREG | 0o644:o},user_id=0,group_id=0,allow_other".encode()
        if _libc.mount(b"stuck", path.encode(), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "mount of a FUSE file", path)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # ENODEV: nobody has it any more
            while request := os.read(self._fd, BUFFER):
                opcode, unique = struct.unpack_from("=IQ", request, 4)
                if opcode == FLUSH and FLUSH not in self._answers:
                    self.waiting.append(unique)
                elif opcode != FORGET:
                    self._write(unique, *self._answers.get(opcode, (-ENOSYS, b"")))
        os.close(self._fd)

    def _write(self, unique, error=0, body=b""):
        os.write(self._fd, struct.pack("=IiQ", 16 + len(body), error, unique) + body)

    def close(self):
        """Unmounts it, and lets who waits go on."""
        _libc.umount2(self.path.encode(), MNT_DETACH)
        self._answers[FLUSH] = (0, b"")
        for unique in self.waiting:
            self._write(unique)


@contextlib.contextmanager
def stuck_file(path):
    """A StuckFile, until the block's end."""
    file = StuckFile(path)
    try:
        yield file
    finally:
        file.close()
