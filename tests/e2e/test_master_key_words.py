"""A master key may hold any printable character; JSON writes some of them in several ways."""

import json

import pytest

from harness.broker import FAST
from harness.rpc import RpcError

MASTER = 'k"ey\\with/odd<chars>&0123456789'
SPELLINGS = {
    "plain": json.dumps(MASTER),
    "slashes": json.dumps(MASTER).replace("/", "\\/"),
    "numbers": '"' + "".join(f"\\u{ord(character):04x}" for character in MASTER) + '"',
}


@pytest.mark.standin(master_key=MASTER)
@pytest.mark.parametrize("name", SPELLINGS)
def test_master_key_in_an_answer_is_hidden_however_it_is_spelled(make_broker, litellm, name):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    said = SPELLINGS[name]
    text = '{"error": {"message": "no credential like ' + said[1:-1] + ' today", "type": "x", "code": "400"}}'
    litellm.fail(path="/key/generate", status=400, body=text, headers={"content-type": "application/json"}, times=-1)
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="process", bind="ttl")
    assert "no credential like" in refusal.value.text and "today" in refusal.value.text
    assert MASTER not in refusal.value.text and "0123456789" not in refusal.value.text
    assert broker.find_leaks() == [] and not [row for row in broker.audit() if MASTER in str(row)]
