"""What tests ask of either upstream, stand-in or real: the keys of one install, by hash."""

from .broker import key_hash
from .wait import wait_until


def ours(litellm, user_id):
    """The keys upstream that belong to one broker: hash -> columns."""
    return {key["token"]: key for key in litellm.keys(user_id) if key["user_id"] == user_id}


def row_of(litellm, api_key):
    """The stored columns of a key, or None."""
    return next((key for key in litellm.keys(token=key_hash(api_key)) if key["token"] == key_hash(api_key)), None)


def wait_gone(litellm, api_key, timeout=5.0):
    """Waits until the key is deleted upstream."""
    wait_until(lambda: row_of(litellm, api_key) is None, timeout, "the key's deletion upstream")


def unread_answers(litellm):
    """How many answers of the stand-in lie in sockets whose owner, stopped by a signal, has not read them."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        sockets = [line.split()[2:5] for line in file][1:]
    return sum(remote.endswith(f":{litellm.port:04X}") and state == "01" and not queues.endswith(":00000000")
               for remote, state, queues in sockets)


def accounted_for(broker, litellm, timeout=15.0):
    """Waits until upstream has exactly the keys that the store holds to be there, and nothing is half done.

    Retiring keys may be there or on their way out; what upstream has and the store doesn't know never settles.
    """
    user_id = broker.user_id

    def settled():
        upstream = set(ours(litellm, user_id))
        stored = {row["hash"]: row["state"] for row in broker.rows("SELECT hash, state FROM key WHERE state <> 'deleted'")}
        half_done = [state for state in stored.values() if state in ("intent", "burned")]
        live = {token for token, state in stored.items() if state == "live"}
        return not half_done and live <= upstream <= set(stored)

    def shown():
        rows = broker.rows("SELECT id, profile, state, hash, alias FROM key WHERE state <> 'deleted'")
        return f"the store and upstream agree\nstore: {rows}\nupstream: {ours(litellm, user_id)}\n{broker.log[-3000:]}"
    wait_until(settled, timeout, shown)
