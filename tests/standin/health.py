"""The health routes. A good answer about the database is kept for a while, so it can be wrong."""

from errors import DB_MESSAGE, detail
from http_server import Response
from llm import MODELS


class Health:
    """Handlers, as in Keys; liveness and readiness need no credential."""

    def __init__(self, site, process):
        self.site, self.process = site, process
        self.errors, self.modes, self.clock = site.errors, site.modes, site.clock
        self.version = site.version
        self.kept_for = 120 if self.errors.old else 15

    def alive(self, request, caller):
        """GET /health/liveliness and /health/liveness."""
        return Response(200, '"I\'m alive!"', {"content-type": "application/json"})

    def _database_is_up(self):
        now = self.clock.time()
        if not self.modes.db_down:
            self.process.healthy_at = now
        return now - self.process.healthy_at < self.kept_for

    def ready(self, request, caller):
        """GET /health/readiness."""
        up = self._database_is_up()
        if self.errors.old:
            if not up:
                raise detail(503, f"Service Unhealthy ({DB_MESSAGE})")
            return {"status": "connected", "db": "connected", "cache": None, "litellm_version": self.version}
        return Response(200 if up else 503, {"status": "healthy", "db": "connected" if up else "disconnected"})

    def details(self, request, caller):
        """GET /health/readiness/details, of the newer version only."""
        if self.errors.old:
            raise detail(404, "Not Found")
        answer = self.ready(request, caller)
        answer.body["litellm_version"] = self.version
        return answer

    def models(self, request, caller):
        """GET /health: in LiteLLM this calls every model."""
        names = [name for name in MODELS if request.query.get("model", name) == name]
        return {"healthy_endpoints": [{"model": f"openai/{name}"} for name in names], "unhealthy_endpoints": [],
                "healthy_count": len(names), "unhealthy_count": 0}
