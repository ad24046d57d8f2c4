"""A master key may hold any printable character; JSON writes some of them in several ways."""

import html
import json
import urllib.parse

import pytest

from harness.broker import FAST
from harness.rpc import RpcError

PLAIN = 'k"ey\\with/odd<chars>&0123456789'
LIKE_A_KEY = 'sk-odd"chars\\and-0123456789'  # what looks like a key of LiteLLM's ends at the quote


def spellings(master):
    text = json.dumps(master)[1:-1]
    return {
        "plain": text,
        "slashes": text.replace("/", "\\/"),
        "numbers": "".join(f"\\u{ord(character):04x}" for character in master),
        "json-in-json": json.dumps(text)[1:-1],
        "json-in-json-in-json": json.dumps(json.dumps(text)[1:-1])[1:-1],
        "go": text.replace("&", "\\u0026").replace("<", "\\u003c"),
        "repr": json.dumps(repr(repr(master)))[1:-1],
        "html": json.dumps(html.escape(master))[1:-1],
        "url": urllib.parse.quote(master, safe=""),
        "cut": json.dumps(master[:-6])[1:-1],
        "cut-with-dots": json.dumps(master[:-6])[1:-1] + "...",
    }


def check(make_broker, litellm, said, template, parts):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", status=400, body=template.replace("SAID", said), times=-1,
                 headers={"content-type": "application/json"})
    with pytest.raises(RpcError) as refusal:
        broker.acquire(profile="process", bind="ttl", timeout_ms=500)
    words = refusal.value.text + broker.log
    assert "no credential like" in words and not [part for part in parts if part in words]
    assert broker.find_leaks() == [] and not [row for row in broker.audit() for part in parts if part in str(row)]


LITELLMS = '{"error": {"message": "no credential like SAID", "type": "x", "code": "400"}}'


@pytest.mark.standin(master_key=PLAIN)
@pytest.mark.parametrize("name", spellings(PLAIN))
def test_master_key_in_an_answer_is_hidden_however_it_is_spelled(make_broker, litellm, name):
    check(make_broker, litellm, spellings(PLAIN)[name], LITELLMS, ["odd<chars", "0123456789"])


@pytest.mark.standin(master_key=LIKE_A_KEY)
@pytest.mark.parametrize("name", spellings(LIKE_A_KEY))
def test_one_that_looks_like_a_key_is_hidden_behind_its_quote_too(make_broker, litellm, name):
    check(make_broker, litellm, spellings(LIKE_A_KEY)[name], LITELLMS, ["chars", "and-", "0123456789"])


@pytest.mark.standin(master_key=PLAIN)
@pytest.mark.parametrize("name", spellings(PLAIN))
def test_answer_that_is_not_litellms_is_not_parsed_and_hides_it_too(make_broker, litellm, name):
    check(make_broker, litellm, spellings(PLAIN)[name], "<p>no credential like SAID</p>",
          ["odd<chars", "odd&lt;chars", "odd%3Cchars", "0123456789", "\\u0031\\u0032"])
