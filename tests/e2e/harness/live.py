"""A real LiteLLM, asked in the same words as the stand-in. Others may use it at the same time."""

import http.client
import json
import secrets
import urllib.parse

from .broker import key_hash


class Live:
    """Knows what this test made, and deletes it at the end."""

    def __init__(self, url, master_key):
        self.url, self.master_key = url.rstrip("/").removesuffix("/v1"), master_key
        self.tag = "kb-e2e-" + secrets.token_hex(5)
        self.names = {"LITELLM_SERVICE_TEAM_ALIAS": self.tag, "LITELLM_SERVICE_KEY_ALIAS": self.tag,
                      "LITELLM_KEY_ALIAS": self.tag + "-${pid}"}
        self._users, self._tokens = set(), set()

    def request(self, method, path, body=None, key=None, timeout=60):
        """One request -> (status, JSON or text)."""
        parts = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=timeout)
        try:
            connection.request(method, parts.path + path, None if body is None else json.dumps(body),
                               {"Authorization": "Bearer " + (key or self.master_key), "Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def admin(self, method, path, body=None):
        """A call with the master key."""
        return self.request(method, path, body)

    def chat(self, key, model="gpt-5"):
        """One LLM call with a virtual key -> (status, JSON)."""
        body = {"model": model, "messages": [{"role": "user", "content": "ping"}]}
        return self.request("POST", "/v1/chat/completions", body, key)

    def add_key(self, key, **columns):
        """A key as the old provisioner would have made it."""
        self._tokens.add(key_hash(key))
        status, made = self.admin("POST", "/key/generate", {"key": key, **columns})
        assert status == 200, made

    def keys(self, user_id=None, token=None):
        """The keys of one user id, or the one of a hash; alias, expiry and the like."""
        if token is not None:
            status, answer = self.admin("GET", "/key/info?key=" + token)
            assert status in (200, 404), answer
            return [{"token": token, **answer["info"]}] if status == 200 else []
        self._users.add(user_id)
        found, page, pages = [], 1, 1
        while page <= pages:
            query = urllib.parse.urlencode({"user_id": user_id, "page": page, "size": 100, "return_full_object": "true"})
            status, answer = self.admin("GET", "/key/list?" + query)
            assert status == 200, answer
            found += answer["keys"]
            page, pages = page + 1, answer["total_pages"]
        return found

    def named(self, alias):
        """The keys with exactly this alias."""
        query = urllib.parse.urlencode({"key_alias": alias, "size": 100, "return_full_object": "true"})
        status, answer = self.admin("GET", "/key/list?" + query)
        assert status == 200, answer
        return answer["keys"]

    def teams(self):
        """The teams of this test."""
        query = urllib.parse.urlencode({"team_alias": self.tag, "page_size": 100})
        status, answer = self.admin("GET", "/v2/team/list?" + query)
        assert status == 200, answer
        return [team for team in answer["teams"] if team["team_alias"] == self.tag]

    def clean(self):
        """Deletes the keys and teams of this test, by hash and id."""
        tokens = set(self._tokens)
        for user in self._users:
            tokens |= {key["token"] for key in self.keys(user)}
        for token in tokens:
            self.admin("POST", "/key/delete", {"keys": [token]})
        teams = [team["team_id"] for team in self.teams()]
        if teams:
            self.admin("POST", "/team/delete", {"team_ids": teams})
