"""Reads a SQLite write-ahead log: its commits, each of which ends with a frame that names the database's size."""

import struct

HEADER, FRAME_HEADER = 32, 24
LEAF = 13  # the type of a table's leaf page


def frames(path):
    """The frames of the log's current round: (is it a commit, page). Those left of an earlier round carry other salts."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < HEADER:
        return
    page_size = struct.unpack_from(">I", data, 8)[0]
    for at in range(HEADER, len(data) - FRAME_HEADER - page_size + 1, FRAME_HEADER + page_size):
        if data[at + 8:at + 16] != data[16:24]:
            return
        yield struct.unpack_from(">I", data, at + 4)[0] != 0, data[at + FRAME_HEADER:at + FRAME_HEADER + page_size]


def commits(path):
    """How many there are."""
    return sum(commit for commit, _ in frames(path))


def varint(data, at):
    """-> (value, where the next one is)"""
    value = 0
    for i in range(8):
        value = value << 7 | data[at + i] & 127
        if data[at + i] < 128:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def last_sequence(page):
    """The highest sequence on a leaf of the table `audit`; 0 for any other page."""
    count = struct.unpack_from(">H", page, 3)[0]
    if page[0] != LEAF or count == 0:
        return 0
    at = varint(page, struct.unpack_from(">H", page, 8 + 2 * (count - 1))[0])[1]
    sequence, at = varint(page, at)
    at = varint(page, at)[1]
    # no other table's rows begin with the row's own number (stored as NULL) and a blob of 32 bytes
    return sequence if (page[at], *varint(page, at + 1)[:1]) == (0, 12 + 2 * 32) else 0


def batches(path, after):
    """The commits of audit rows beyond the sequence `after`, each as (bytes in the log, rows). The log's first commit
    is only what the next one is counted from."""
    found, size, last, highest = [], 0, 0, 0
    for commit, page in frames(path):
        size += FRAME_HEADER + len(page)
        highest = max(highest, last_sequence(page))
        if commit:
            if last >= after and highest > last:
                found.append((size, highest - last))
            size, last = 0, highest
    return found
