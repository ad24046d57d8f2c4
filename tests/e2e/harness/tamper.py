"""Tampering with the audit, by somebody who may write the file: through SQLite, with the triggers dropped."""

import contextlib
import sqlite3

from . import audit

COLUMNS = ("hash", "wall_ms", "boot_ms", "term", "instance", "event", "outcome", "rule", "profile", "lease", "uid", "gid",
           "pid", "start_time", "unit", "exe", "key_tag", "detail")


@contextlib.contextmanager
def tampering(broker):
    """A writing connection without the audit's triggers, which are there again at the end, when what it did is committed."""
    database = sqlite3.connect(broker.db, timeout=5, isolation_level=None)
    try:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        triggers = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name LIKE 'audit%'").fetchall()
        database.execute("BEGIN IMMEDIATE")
        for name, _sql in triggers:
            database.execute(f"DROP TRIGGER {name}")
        yield database
        for _name, sql in triggers:
            with contextlib.suppress(sqlite3.OperationalError):  # the table may be gone
                database.execute(sql)
        database.execute("COMMIT")
    finally:
        database.close()


def edit(database, sequence, column):
    """Changes one value, whatever it is."""
    kind = database.execute(f"SELECT typeof({column}) FROM audit WHERE sequence = ?", (sequence,)).fetchone()[0]
    change = {"integer": f"{column} + 1", "text": f"iif({column} LIKE 'x%', 'y', 'x') || substr({column}, 2)",
              "blob": f"CAST(iif(substr({column}, 1, 1) = x'00', x'01', x'00') || substr({column}, 2) AS BLOB)"}[kind]
    database.execute(f"UPDATE audit SET {column} = {change} WHERE sequence = ?", (sequence,))


def delete(database, sequence):
    """Takes one row out."""
    database.execute("DELETE FROM audit WHERE sequence = ?", (sequence,))


def renumber(database, first, by):
    """Gives the rows from `first` on other numbers."""
    database.execute("UPDATE audit SET sequence = -sequence WHERE sequence >= ?", (first,))
    database.execute("UPDATE audit SET sequence = -sequence + ? WHERE sequence < 0", (by,))


def swap(database, left, right):
    """Two rows change places."""
    for old, new in ((left, -1), (right, left), (-1, right)):
        database.execute("UPDATE audit SET sequence = ? WHERE sequence = ?", (new, old))


def insert(database, sequence, like):
    """Puts a copy of a row there, the others pushed on."""
    renumber(database, sequence, 1)
    database.execute(f"INSERT INTO audit (sequence, {', '.join(COLUMNS)}) SELECT ?, {', '.join(COLUMNS)} FROM audit"
                     " WHERE sequence = ?", (sequence, like))


def truncate(database, last):
    """Cuts off what comes behind."""
    database.execute("DELETE FROM audit WHERE sequence > ?", (last,))


def rewrite(broker, walls, detail="long ago"):
    """Gives a stopped broker an audit with right hashes and these wall clocks, as years of work would."""
    row = broker.rows("SELECT * FROM audit WHERE sequence = 1")[0]
    previous, made = bytes(32), []
    for sequence, wall_ms in enumerate(walls, 1):
        row = {**row, "sequence": sequence, "wall_ms": wall_ms, "event": "acquire", "detail": detail}
        previous = audit.link(audit.subkey(broker.seal_key, audit.AUDIT_SUBKEY), previous, audit.encode(row))
        made.append([sequence, previous, *[row[name] for name in COLUMNS[1:]]])
    database = sqlite3.connect(broker.db)
    try:
        triggers = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'"
                                    ).fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("DELETE FROM audit")
        database.executemany(f"INSERT INTO audit (sequence, {', '.join(COLUMNS)}) VALUES ({', '.join('?' * 19)})", made)
        for _, sql in triggers:
            database.execute(sql)
        database.commit()
    finally:
        database.close()
