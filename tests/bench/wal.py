"""Counts the commits in a SQLite write-ahead log: each ends with a frame that names the database's size."""

import struct

HEADER, FRAME_HEADER = 32, 24


def commits(path):
    """The commits of the log's current round; frames left of an earlier one carry other salts."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < HEADER:
        return 0
    page_size = struct.unpack_from(">I", data, 8)[0]
    salts, count = data[16:24], 0
    for at in range(HEADER, len(data) - FRAME_HEADER - page_size + 1, FRAME_HEADER + page_size):
        if data[at + 8:at + 16] != salts:
            break
        count += struct.unpack_from(">I", data, at + 4)[0] != 0
    return count
