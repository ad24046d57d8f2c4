"""A program that reads its key again on SIGHUP: `keybroker exec --key-file FILE --watch-signal HUP -- python3 reload_on_hup.py MODEL`.

Makes a call every few seconds (CALL_EVERY, default 5) and prints its HTTP status beside the end of the key that it used.
"""

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request


def read_key():
    """The key as it is now."""
    with open(os.environ["OPENAI_API_KEY_FILE"], encoding="ascii") as file:
        return file.read().strip()


def call(key, model):
    """One chat completion; -> its HTTP status."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "ping"}]}).encode()
    headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def main():
    """Calls until it is told to end."""
    key = ""

    def reload(*_):
        nonlocal key
        key = read_key()
        print("key read", flush=True)

    signal.signal(signal.SIGHUP, reload)
    reload()
    while True:
        used = key
        print(call(used, sys.argv[1]), "sk-…" + used[-4:], flush=True)
        time.sleep(float(os.environ.get("CALL_EVERY", "5")))


if __name__ == "__main__":
    main()
