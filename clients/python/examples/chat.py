"""One chat completion, with a key that the broker hands out. Needs the package `openai`.

usage: chat.py MODEL [WORDS…]
"""

import sys

from openai import OpenAI

import keybroker

if len(sys.argv) < 2:
    sys.exit(__doc__)

client = OpenAI(api_key=keybroker.api_key("service"), base_url=keybroker.base_url("service"))
answer = client.chat.completions.create(
    model=sys.argv[1],
    messages=[{"role": "user", "content": " ".join(sys.argv[2:]) or "Say hello in one word."}],
)
print(answer.choices[0].message.content)
