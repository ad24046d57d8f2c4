"""`audit export`: every row with every column, signed, verified elsewhere with the audit key alone."""

import json
import os
import stat
import subprocess

import pytest

from harness import audit, build, tamper
from harness.wait import wait_until

ROWS = 20


@pytest.fixture
def filled(broker):
    """A running broker with some rows."""
    with broker.rpc() as connection:
        for _ in range(ROWS):
            connection.call("acquire")
    return broker


def export(broker, *args):
    """-> the lines of an export."""
    return broker.cli("audit", "export", *args).ok().splitlines()


def numbers(lines):
    """The sequences of its rows."""
    return [json.loads(line)["sequence"] for line in lines[1:-1]]


def key_file(broker):
    """The audit key, handed out once."""
    path = broker.path("files/audit.key")
    if not os.path.exists(path):
        broker.cli("audit", "key", "--out", path).ok()
    return path


def offline(broker, lines, *args, key=None):
    """Verifies lines somewhere else: no state, no seal key, no broker; -> what --json says, and the exit code."""
    path = broker.write("export", "".join(line + "\n" for line in lines))
    done = subprocess.run([build.binary(build.AUDIT_PROGRAM), "verify", "--json", "--export", path, "--key",
                           key or key_file(broker), *args], env={"PATH": "/usr/bin:/bin", **build.sanitizer_environment()},
                          text=True, capture_output=True, check=False)
    assert done.returncode in (0, 1), done
    return {"code": done.returncode, "stderr": done.stderr, **json.loads(done.stdout)}


def test_every_column_of_every_row(filled):
    lines = export(filled)
    begin, end = json.loads(lines[0]), json.loads(lines[-1])
    stored = {row["sequence"]: row for row in filled.rows("SELECT * FROM audit")}
    assert numbers(lines) == list(range(1, end["to"] + 1)) and end["rows"] == end["to"]
    assert (begin["after"], begin["previous"], begin["install"]) == (0, "00" * 32, filled.install)
    for line in lines[1:-1]:
        row = json.loads(line)
        expected = stored[row["sequence"]]
        assert row == {**expected, "hash": bytes(expected["hash"]).hex()}
    assert json.loads(lines[-2])["event"] == "audit_export"  # the record of itself is in it


def test_signature_by_an_independent_reckoning(filled):
    lines = export(filled, "--from", "5")
    begin, end = json.loads(lines[0]), json.loads(lines[-1])
    text = "1 {after} {previous} {exported_at_ms} {to} {rows} {hash} {install}".format(**begin, **end)
    assert audit.sign(filled.seal_key, "keybroker audit export", text.encode()).hex() == end["mac"]


def test_whole_export_verifies_elsewhere(filled):
    lines = export(filled)
    found = offline(filled, lines)
    assert found["code"] == 0 and (found["first"], found["rows"]) == (1, len(lines) - 2)
    assert offline(filled, lines, "--head", found["head"])["code"] == 0
    done = filled.cli("audit", "verify", "--export", "-", "--key", key_file(filled), stdin="\n".join(lines) + "\n")
    assert done.code == 0 and done.stdout.startswith("whole: ")


def test_parts_and_new_rows(filled):
    part = export(filled, "--from", "3", "--to", "7")
    assert numbers(part) == [3, 4, 5, 6, 7]
    assert offline(filled, part)["code"] == 0
    first = export(filled)
    filled.acquire()
    second = export(filled, "--new")
    assert numbers(second)[0] == numbers(first)[-1] + 1
    found = offline(filled, first + second)  # one file that is appended to
    assert found["code"] == 0 and found["rows"] == numbers(second)[-1]
    for all_of_it in (first + part + second, part + first + second, first + second + part):  # each row counts once
        overlapping = offline(filled, all_of_it, "--head", found["head"])
        assert {**overlapping, "stderr": ""} == {**found, "stderr": ""}, overlapping
    gap = offline(filled, part + second)
    assert (gap["code"], gap["first_bad"], gap["fault"]) == (1, 8, "missing")
    gap = offline(filled, second + part)
    assert (gap["code"], gap["first_bad"], gap["fault"]) == (1, 8, "missing")
    assert filled.cli("audit", "export", "--from", "99999").code == 64
    assert filled.cli("audit", "export", "--from", "3", "--new").code == 64


def test_reading_is_on_record_before_and_after(filled):
    lines = export(filled, "--from", "2", "--to", "9")
    before, = filled.audit(event="audit_export")
    after, = filled.audit(event="audit_exported")
    assert before["detail"] == "rows 2 to 9" and before["uid"] == os.getuid()
    assert after["detail"] == "rows 2 to 9; all up to 0 are exported"  # row 1 is in none
    end = numbers(export(filled))[-1]
    assert filled.audit(event="audit_exported")[-1]["detail"] == f"rows 1 to {end}; all up to {end} are exported"
    assert filled.admin("status")["audit"]["exported"] == end
    filled.restart()
    assert filled.admin("status")["audit"]["exported"] == end
    assert offline(filled, lines)["code"] == 0
    assert filled.audit(event="audit_key")


def edited(lines, number, **changes):
    """The lines with values of one of them changed."""
    return [json.dumps({**json.loads(line), **changes}) if i == number else line for i, line in enumerate(lines)]


@pytest.mark.parametrize("column", [name for name in audit.COLUMNS if name != "sequence"] + ["hash"])
def test_an_edit_of_each_column(filled, column):
    lines = export(filled)
    value = json.loads(lines[9])[column]
    change = value + 1 if isinstance(value, int) else ("0" if value[:1] != "0" else "1") + value[1:]
    found = offline(filled, edited(lines, 9, **{column: change}))
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 9, "changed")


@pytest.mark.parametrize("change,first_bad,fault", [
    (lambda lines: lines[:7] + lines[8:], 7, "missing"),
    (lambda lines: lines[:1] + lines[4:], 1, "missing"),
    (lambda lines: lines[:5] + [lines[6], lines[5]] + lines[7:], 5, "out_of_order"),
    (lambda lines: lines[:5] + [lines[15]] + lines[5:15] + lines[16:], 5, "out_of_order"),
    (lambda lines: lines[:9] + [lines[3]] + lines[9:], 3, "inserted"),
    (lambda lines: lines[:9] + edited([lines[3]], 0, sequence=9) + [
        json.dumps({**row, "sequence": row["sequence"] + 1}) for row in map(json.loads, lines[9:-1])] + lines[-1:], 9,
     "inserted"),
    (lambda lines: lines[:9] + ["{}"] + lines[9:], 9, "impossible"),
    (lambda lines: lines[:9] + [lines[9][:-2]] + lines[10:], 9, "impossible"),
    (lambda lines: edited(lines, 9, note="x"), 9, "impossible"),
    (lambda lines: lines[:9] + [lines[9] + '\0{"event": "hidden"}'] + lines[10:], 9, "impossible"),
    (lambda lines: lines[:9] + [lines[9] + "\0"] + lines[10:], 9, "impossible"),
    (lambda lines: lines[:9] + ["\0" + lines[9]] + lines[10:], 9, "impossible"),
    (lambda lines: lines[:12], 12, "missing"),
    (lambda lines: lines[:12] + lines[-1:], 12, "missing"),
    (lambda lines: lines[1:], 1, "impossible"),
    (lambda lines: [], 1, "missing"),
    (lambda lines: lines + lines[3:4], None, "impossible"),
    (lambda lines: edited(lines, 0, install="other"), 1, "forged"),
    # the beginning cut off, and what the export says of itself made to fit
    (lambda lines: edited(lines, 0, after=5, previous=json.loads(lines[5])["hash"])[:1] + lines[6:], 6, "forged"),
], ids=["missing", "beginning", "swapped", "moved", "twice", "inserted", "nothing", "cut", "more", "hidden", "NUL", "only NUL", "no end", "truncated",
        "no begin", "empty", "outside", "install", "begin"])
def test_tampering_with_a_file(filled, change, first_bad, fault):
    lines = export(filled)
    found = offline(filled, change(lines))
    assert (found["code"], found["fault"]) == (1, fault), found
    assert found["first_bad"] == (first_bad if first_bad is not None else len(lines) - 1), found


@pytest.mark.parametrize("of", ["inside", "across", "behind", "before"])
def test_exports_of_two_audits_do_not_pass_as_one(filled, of):
    """Of the same place with the same seal key, so with the same audit key and, on most machines, the same install."""
    one = {name: export(filled, "--from", str(first), "--to", str(last)) for name, (first, last) in {
        "whole": (1, 20), "late": (11, 20), "early": (1, 10)}.items()}
    filled.stop()
    filled.start("--reset-state")
    with filled.rpc() as connection:
        for _ in range(ROWS):
            connection.call("acquire")
    other = export(filled, "--from", "5", "--to", "15")
    if json.loads(other[0])["install"] != json.loads(one["whole"][0])["install"]:
        pytest.skip("needs an /etc/machine-id: else the installs tell")
    pieces, first_bad = {"inside": (one["whole"] + other, 5), "across": (other + one["whole"], 4),
                         "behind": (one["early"] + other, 5), "before": (one["late"] + other, 10)}[of]
    found = offline(filled, pieces)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, first_bad, "other_head"), found


def test_exports_of_two_installs_do_not_pass_as_one(filled):
    """The state was moved to another place: its audit goes on, and there may be a second one that goes on elsewhere."""
    lines = export(filled, "--to", "9") + edited(export(filled, "--from", "5"), 0, install="elsewhere")
    found = offline(filled, lines)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 5, "other_head") and "another state" in found["message"]


def test_truncation_with_a_matching_end_is_found_by_a_head(filled):
    """An older export is whole, too: only a head tells that there was more."""
    old = export(filled)
    head = filled.cli("audit", "verify", "--json").json()["head"]
    assert offline(filled, old)["code"] == 0
    found = offline(filled, old, "--head", head)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, numbers(old)[-1] + 1, "missing")


def test_head_from_before_an_export_is_not_taken_for_checked(filled):
    row, = filled.rows("SELECT hash FROM audit WHERE sequence = 3")
    head = f"3:{bytes(row['hash']).hex()}"
    late = export(filled, "--from", "10")
    found = offline(filled, late, "--head", head)
    assert (found["code"], found["whole"], found["first_bad"], found["fault"]) == (1, False, 3, "missing")
    assert "could not be checked" in found["message"]
    assert offline(filled, late + export(filled, "--to", "9"), "--head", head)["code"] == 0


def test_another_key_verifies_nothing(filled):
    lines = export(filled)
    other = filled.write("other.key", "11" * 32 + "\n")
    done = filled.cli("audit", "verify", "--export", filled.write("whole", "\n".join(lines) + "\n"), "--key", other)
    assert done.code == 78 and done.stdout == "" and "is not the key of this audit" in done.stderr
    found = offline(filled, lines[:-1], key=other)  # the end would tell
    assert (found["code"], found["first_bad"]) == (1, 1) and "is this the audit key" in found["stderr"]
    first = json.loads(lines[1])
    found = offline(filled, [lines[0], json.dumps({**first, "pid": first["pid"] + 1}), *lines[2:]])
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 1, "changed")
    for text, mode in (("11" * 31 + "\n", 0o600), ("11" * 32 + "\n", 0o644)):
        bad = filled.write("bad.key", text, mode)
        assert filled.cli("audit", "verify", "--export", filled.write("x", ""), "--key", bad).code == 78


def test_text_that_is_not_utf8_is_exported_whole(filled, tmp_path):
    """A state of an older version may have the path of a program as the kernel gave it."""
    program = os.fsencode(str(tmp_path)) + b"/\xff\xfe"
    with filled.rpc() as connection:
        connection.call("acquire")
    filled.stop()
    lines = resigned(filled, program)
    found = offline(filled, lines)
    assert found["code"] == 0
    assert bytes.fromhex(json.loads(lines[-2])["exe_hex"]) == program
    assert filled.cli("audit", "verify").code == 0


def resigned(broker, program):
    """Writes one more row with that path, chained with the key, as such a version would; -> the export."""
    row = broker.rows("SELECT * FROM audit ORDER BY sequence DESC LIMIT 1")[0]
    with tamper.tampering(broker) as database:
        database.execute("INSERT INTO audit (sequence, {0}) SELECT sequence + 1, {0} FROM audit WHERE sequence = ?".format(
            ", ".join(tamper.COLUMNS)), (row["sequence"],))
        encoded = audit.encode({**row, "sequence": row["sequence"] + 1, "exe": program})
        value = audit.link(audit.subkey(broker.seal_key, audit.AUDIT_SUBKEY), bytes(row["hash"]), encoded)
        database.execute("UPDATE audit SET exe = CAST(? AS TEXT), hash = ? WHERE sequence = ?",
                         (program, value, row["sequence"] + 1))
    return broker.run(build.binary(build.AUDIT_PROGRAM), "export").ok().splitlines()


def test_key_goes_to_a_file_of_ones_own(filled):
    path = key_file(filled)
    with open(path, encoding="ascii") as file:
        text = file.read()
    assert text == audit.subkey(filled.seal_key, audit.AUDIT_SUBKEY).hex() + "\n"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    done = filled.cli("audit", "key", "--out", path)
    assert done.code == 73 and open(path, encoding="ascii").read() == text
    assert filled.cli("audit", "key", "--out", "/no/such/key").code == 73
    assert filled.cli("audit", "key").stdout == text
    done = filled.cli("audit", "key", "--state", "/no/such", "--out", filled.path("files/none"))
    assert done.code == 66 and not os.path.exists(filled.path("files/none"))


def test_key_never_goes_to_a_terminal(filled):
    ours, theirs = os.openpty()
    for command in (filled.cli_command("audit", "key"), [build.binary(build.AUDIT_PROGRAM), "key"]):
        done = subprocess.run(command, env=filled.cli_env(), stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
                              check=False)
        assert done.returncode == 64 and b"--out" in done.stderr
    os.set_blocking(ours, False)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)


def test_nothing_secret_is_printed(filled):
    key = audit.subkey(filled.seal_key, audit.AUDIT_SUBKEY).hex()
    filled.secrets |= {filled.seal_key.hex(), filled.litellm.master_key}  # the search at the end looks for them too
    said = "".join(export(filled)) + filled.cli("audit", "verify").stdout
    for secret in {key, *filled.secrets, *filled.issued}:
        assert secret not in said


def test_what_does_not_arrive_is_not_exported(filled):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(filled.cli_command("audit", "export"), env=filled.cli_env(), stdout=full,
                              stderr=subprocess.PIPE, check=False)
    assert done.returncode == 74
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(filled.cli_command("audit", "export"), env=filled.cli_env(), stdout=write, stderr=subprocess.PIPE,
                          check=False)
    os.close(write)
    assert done.returncode == 74
    assert not filled.audit(event="audit_exported") and filled.admin("status")["audit"]["exported"] == 0


def test_broken_audit_is_exported_as_it_stands_without_an_end(filled):
    with tamper.tampering(filled) as database:
        tamper.edit(database, 9, "uid")
    done = filled.cli("audit", "export")
    lines = done.stdout.splitlines()
    assert done.code == 1 and "BROKEN at row 9" in done.stderr
    assert len(lines) > ROWS and json.loads(lines[-1])["sequence"] == len(lines) - 1
    found = offline(filled, lines)
    assert (found["code"], found["first_bad"], found["fault"]) == (1, 9, "changed")
    assert filled.admin("status")["audit"]["exported"] == 0


def test_without_a_broker_it_is_not_recorded_so_it_is_not_done(filled):
    filled.stop()
    done = filled.cli("audit", "export")
    assert done.code == 69 and done.stdout == ""


def test_reader_that_waits_holds_nothing_up(make_broker):
    """An export that nobody reads keeps no transaction open: the broker's log starts anew meanwhile."""
    broker = make_broker(timing={"checkpoint_every_ms": 50}).start()
    broker.wait_ready()
    with broker.rpc() as connection:
        while broker.count("SELECT count(*) FROM audit") < 3000:
            for number in [connection.send("acquire", bind="ttl") for _ in range(16)]:
                connection.result(number)
    read, write = os.pipe()
    process = subprocess.Popen(broker.cli_command("audit", "export"), env=broker.cli_env(), stdout=write,
                               stderr=subprocess.DEVNULL)
    try:
        os.close(write)
        os.read(read, 1)  # it has begun, and the pipe is full soon
        wal = broker.db + "-wal"

        def started_anew():
            with broker.rpc() as connection:
                for number in [connection.send("acquire", bind="ttl") for _ in range(16)]:
                    connection.result(number)
            with open(wal, "rb") as file:
                return file.read(32)[16:24]  # the log's salt is drawn anew with each start
        before = started_anew()
        wait_until(lambda: started_anew() != before, 20, "a fresh log")
    finally:
        os.close(read)
        process.wait(10)
    assert process.returncode == 74
