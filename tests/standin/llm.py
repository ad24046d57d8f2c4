"""/v1/models and the LLM calls, with LiteLLM's refusals."""

import json
import time
import uuid

import clock as times
from errors import ApiError, error
from http_server import Response

MODELS = ("gpt-5", "gpt-5-mini", "claude-sonnet-4-5", "text-embedding-3-small")
EVERY_MODEL = ("all-team-models", "all-proxy-models", "*")
TOKENS = 6
WINDOW = 60


class Llm:
    """Handlers, as in Keys; they return a Response where there is more than JSON."""

    def __init__(self, site, process):
        self.site, self.process = site, process
        self.store, self.errors, self.modes, self.clock = site.store, site.errors, site.modes, site.clock

    def models(self, request, caller):
        """GET /v1/models: those that the key may use."""
        wanted = [name for name in self._models_of(caller.row) if name not in EVERY_MODEL]
        if not wanted:
            wanted = self._models_of(caller.team) or MODELS
        data = [{"id": name, "object": "model", "created": 1677610602, "owned_by": "openai"} for name in wanted]
        return {"data": data, "object": "list"}

    @staticmethod
    def _models_of(row):
        return row["models"] if row else []

    def chat(self, request, caller):
        """POST /v1/chat/completions, streaming or not."""
        model = self._admit(request, caller, "/chat/completions")
        if request.data.get("stream"):
            return self._stream(model)
        message = {"content": "pong", "role": "assistant"}
        return {"id": f"chatcmpl-{uuid.uuid4()}", "created": int(self.clock.time()), "model": model,
                "object": "chat.completion",
                "choices": [{"finish_reason": "stop", "index": 0, "message": message}],
                "usage": {"completion_tokens": 1, "prompt_tokens": TOKENS - 1, "total_tokens": TOKENS}}

    def _stream(self, model):
        base = {"id": f"chatcmpl-{uuid.uuid4()}", "object": "chat.completion.chunk",
                "created": int(self.clock.time()), "model": model}
        deltas = [({"role": "assistant", "content": "po"}, None), ({"content": "ng"}, None), ({}, "stop")]
        chunks = []
        for delta, reason in deltas:
            choice = {"index": 0, "delta": delta, **({"finish_reason": reason} if reason else {})}
            chunks.append(b"data: " + json.dumps({**base, "choices": [choice]}).encode() + b"\n\n")
        return Response(200, headers={"cache-control": "no-cache"}, chunks=chunks + [b"data: [DONE]\n\n"])

    def messages(self, request, caller):
        """POST /v1/messages: Anthropic's form."""
        model = self._admit(request, caller, "/v1/messages")
        return {"content": [{"text": "pong", "type": "text"}], "id": f"msg_{uuid.uuid4().hex}", "model": model,
                "role": "assistant", "stop_reason": "end_turn", "stop_sequence": None, "type": "message",
                "usage": {"input_tokens": TOKENS - 1, "output_tokens": 1}}

    def embeddings(self, request, caller):
        """POST /v1/embeddings."""
        model = self._admit(request, caller, "/embeddings")
        return {"model": model, "data": [{"embedding": [0.1, 0.2, 0.3], "index": 0, "object": "embedding"}],
                "object": "list", "usage": {"completion_tokens": 0, "prompt_tokens": 2, "total_tokens": 2}}

    def _admit(self, request, caller, route):
        """Refuses what LiteLLM refuses, else counts the call. -> the model."""
        model = request.data.get("model")
        if caller.row is not None:
            self._check_models(caller, model)
            self._check_budgets(caller)
            self._check_rates(caller.row)
        if model not in MODELS:
            raise self._unknown_model(route, model)
        if caller.row is not None:
            self._count(caller.row)
        return model

    def _check_models(self, caller, model):
        row, team = caller.row, caller.team
        if row["models"] and model not in row["models"] and not set(row["models"]) & set(EVERY_MODEL):
            raise self.errors.model_denied("key", row["models"], model)
        if row["team_id"] is not None and team is None and not self.errors.old:
            text = f"Team doesn't exist in db. Team={row['team_id']}. Create team via `/team/new` call."
            raise error(404, str({"error": text}), "auth_error", "None")
        if team and team["models"] and model not in team["models"] and not set(team["models"]) & set(EVERY_MODEL):
            raise self.errors.model_denied("team", team["models"], model)

    def _check_budgets(self, caller):
        row = self.store.keys.get(caller.row["token"], caller.row)
        if caller.row["max_budget"] is not None and row["spend"] >= caller.row["max_budget"]:
            raise self.errors.budget(f"Key=key ({row['key_name']})", row["spend"], caller.row["max_budget"])
        team = caller.team and self.store.teams.get(caller.team["team_id"], caller.team)
        if team and team["max_budget"] is not None and team["spend"] >= team["max_budget"]:
            raise self.errors.budget(f"Team={team['team_id']}", team["spend"], team["max_budget"])

    def _check_rates(self, row):
        calls, tokens = self._window(row["token"])[1:]
        reserved = 0 if self.errors.old else TOKENS
        limits = (("max_parallel_requests", "max_parallel_requests", 0, 1), ("rpm_limit", "requests", calls, 1),
                  ("tpm_limit", "tokens", tokens, reserved))
        for column, name, used, more in limits:
            limit = row[column]
            if limit is not None and (used + more > limit or used >= limit):
                raise self._limited(row, name, limit, max(limit - used, 0))

    def _window(self, token):
        """[start, calls, tokens] of the current minute."""
        now = self.clock.time()
        window = self.process.windows.get(token)
        if window is None or now - window[0] >= WINDOW:
            window = self.process.windows[token] = [now, 0, 0]
        return window

    def _limited(self, row, name, limit, left):
        resets = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.clock.time() + WINDOW))
        text = (f"Rate limit exceeded for api_key: {row['token']}. Limit type: {name}. "
                f"Current limit: {limit}, Remaining: {left}. Limit resets at: {resets}")
        kind, param = ("None", "None") if self.errors.old else ("throttling_error", None)
        body = {"error": {"message": text, "type": kind, "param": param, "code": "429"}}
        return ApiError(429, body, {"retry-after": str(WINDOW), "rate_limit_type": name, "reset_at": resets})

    def _unknown_model(self, route, model):
        text = (f"{route}: Invalid model name passed in model={model}. "
                "Call `/v1/models` to view available models for your key.")
        if self.errors.old:
            return error(400, str({"error": text}), "None", "None")
        return error(400, text, "invalid_request_error")

    def _count(self, row):
        window = self._window(row["token"])
        window[1] += 1
        window[2] += TOKENS
        stored = self.store.keys.get(row["token"])
        if stored is not None:
            stored["spend"] += self.modes.cost_per_call
            stored["last_active"] = times.to_ms(self.clock.now())
        team = self.store.teams.get(row["team_id"])
        if team is not None:
            team["spend"] += self.modes.cost_per_call
