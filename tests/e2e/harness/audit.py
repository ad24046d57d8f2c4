"""The audit seen from outside: an own reckoning of the chain from the seal key and the rows of the database."""

import hashlib
import sqlite3
import struct

CONTEXT = b"keybrkr1"
AUDIT_SUBKEY = 2
TAG_SUBKEY = 3
INTEGERS = ("sequence", "wall_ms", "boot_ms", "term")
WORDS = ("instance", "event", "outcome", "rule", "profile", "lease")
PEER = ("uid", "gid", "pid", "start_time")
REST = ("unit", "exe", "key_tag", "detail")
COLUMNS = INTEGERS + WORDS + PEER + REST


def subkey(seal_key, number):
    """libsodium's crypto_kdf_derive_from_key()."""
    return hashlib.blake2b(b"", digest_size=32, key=seal_key, salt=struct.pack("<Q8x", number),
                           person=CONTEXT + bytes(8)).digest()


def encode(row):
    """The bytes that the chain covers; row: a mapping with all COLUMNS."""
    def integers(names):
        return b"".join(struct.pack(">Q", row[name] & 0xFFFFFFFFFFFFFFFF) for name in names)

    def texts(names):
        encoded = [text if isinstance(text, bytes) else (text or "").encode() for text in map(row.get, names)]
        return b"".join(struct.pack(">I", len(text)) + text for text in encoded)
    return integers(INTEGERS) + texts(WORDS) + integers(PEER) + texts(REST)


def link(audit_key, previous, encoded):
    """The hash of a row after one with the hash `previous`."""
    return hashlib.blake2b(previous + encoded, digest_size=32, key=audit_key).digest()


def chain(seal_key, rows):
    """The hash that each row must have, in order."""
    key, previous = subkey(seal_key, AUDIT_SUBKEY), bytes(32)
    for row in rows:
        previous = link(key, previous, encode(row))
        yield previous


def sign(seal_key, kind, data):
    """A signature with the audit key: the kind stands where a row has the hash of the row before."""
    return link(subkey(seal_key, AUDIT_SUBKEY), kind.encode().ljust(32, b"\0"), data)


def checkpoint_mac(seal_key, row, install):
    """What a row of audit_checkpoint must be signed with; install "": what it was signed with once."""
    numbers = struct.pack(">QQQ", row["sequence"], row["count"], row["pruned_at_ms"])
    return sign(seal_key, "keybroker audit checkpoint", numbers + bytes(row["hash"]) + install.encode())


def tag(seal_key, key):
    """The tag by which the audit names a key."""
    return tag_of_hash(subkey(seal_key, TAG_SUBKEY), hashlib.sha256(key.encode()).hexdigest())


def tag_of_hash(tag_key, key_hash):
    """The same by the key's SHA-256 in hex."""
    return hashlib.blake2b(key_hash.encode(), digest_size=16, key=tag_key).hexdigest()


def fill(broker, count, first=None, **columns):
    """Rows as no broker ever wrote them, into the state of one that is stopped: a long audit in no time."""
    database = sqlite3.connect(broker.db, isolation_level=None)
    try:
        triggers = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'").fetchall()
        database.execute("BEGIN IMMEDIATE")
        for name, _sql in triggers:
            database.execute(f"DROP TRIGGER {name}")
        if first is None:
            first = database.execute("SELECT coalesce(max(sequence), 0) + 1 FROM audit").fetchone()[0]
        row = {**dict.fromkeys(COLUMNS, ""), **dict.fromkeys(PEER, 1), "hash": bytes(32), "wall_ms": 1, "boot_ms": 1,
               "term": 1, "instance": "main", "event": "acquire", "outcome": "ok", **columns}
        names = ", ".join(row)
        database.executemany(f"INSERT INTO audit ({names}) VALUES ({', '.join('?' * len(row))})",
                             ([*{**row, "sequence": number}.values()] for number in range(first, first + count)))
        for _name, sql in triggers:
            database.execute(sql)
        database.execute("COMMIT")
    finally:
        database.close()
