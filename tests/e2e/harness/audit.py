"""The audit seen from outside: an own reckoning of the chain from the seal key and the rows of the database."""

import hashlib
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
        encoded = [(row[name] or "").encode() for name in names]
        return b"".join(struct.pack(">I", len(text)) + text for text in encoded)
    return integers(INTEGERS) + texts(WORDS) + integers(PEER) + texts(REST)


def chain(seal_key, rows):
    """The hash that each row must have, in order."""
    key, previous = subkey(seal_key, AUDIT_SUBKEY), bytes(32)
    for row in rows:
        previous = hashlib.blake2b(previous + encode(row), digest_size=32, key=key).digest()
        yield previous


def tag(seal_key, key):
    """The tag by which the audit names a key."""
    name = hashlib.sha256(key.encode()).hexdigest().encode()
    return hashlib.blake2b(name, digest_size=16, key=subkey(seal_key, TAG_SUBKEY)).hexdigest()
