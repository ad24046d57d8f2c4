"""The application: routes requests through the ordered failures, authentication and the handlers."""

import re
import time

from auth import Authenticator, Caller
from clock import Clock
from control import Control
from errors import DB_MESSAGE, ApiError, Errors, detail, error
from faults import Meeting, Modes, Rules
from health import Health
from http_server import Closed, Response
from journal import Journal
from keys import Keys
from llm import Llm
from store import Process, Store
from teams import Teams
from validate import parse_body, require_object
from views import Views

REGENERATE = re.compile(r"/key/([^/]+)/regenerate")


class Site:
    """What all proxy processes share: the database, the clock, the failures, the journal of calls."""

    def __init__(self, version, master_key, cache_seconds):
        self.version, self.master_key = version, master_key
        self.clock, self.errors, self.views = Clock(), Errors(version), Views(version)
        self.store, self.modes, self.rules = Store(self.clock), Modes(cache_seconds), Rules()
        self.journal = Journal(master_key)
        self._meeting = Meeting(self.modes)
        self.processes = []

    def add_process(self):
        """-> the application of one more proxy process."""
        process = Process(len(self.processes) + 1, self.store, self.modes)
        self.processes.append(process)
        return Application(self, process)

    def meet(self, kind, name):
        """Between a check and its insert: with `alias_race`, concurrent requests get past the check together."""
        if not self.modes.alias_race:
            return
        self.store.lock.release()
        try:
            self._meeting.wait((kind, name))
        finally:
            self.store.lock.acquire()

    def reset(self):
        """Everything as after a start with an empty database."""
        with self.store.lock:
            self.store.clear()
            self.modes.clear()
            self.clock.reset()
            for process in self.processes:
                process.clear()
        self.rules.clear()
        self.journal.clear()


class Application:
    """Serves the requests of one proxy process."""

    def __init__(self, site, process):
        self.site, self.process, self.errors = site, process, site.errors
        self.auth = Authenticator(process, site.store, site.errors, site.master_key)
        self.control = Control(site)
        self.routes = self._routes()
        self.headers = {"server": "uvicorn"} if site.errors.old else {}

    def _routes(self):
        """path -> method -> (handler, needs a credential, needs the database beyond that)."""
        keys, teams = Keys(self.site, self.process), Teams(self.site, self.process)
        llm, health = Llm(self.site, self.process), Health(self.site, self.process)
        routes = {
            "/key/generate": {"POST": (keys.generate, True, False)}, "/key/info": {"GET": (keys.info, True, True)},
            "/v2/key/info": {"POST": (keys.info_many, True, True)}, "/key/update": {"POST": (keys.update, True, True)},
            "/key/block": {"POST": (keys.block, True, True)}, "/key/unblock": {"POST": (keys.unblock, True, True)},
            "/key/delete": {"POST": (keys.delete, True, True)}, "/key/list": {"GET": (keys.list, True, True)},
            "/key/aliases": {"GET": (keys.aliases, True, True)},
            "/key/regenerate": {"POST": (keys.regenerate, True, False)},
            "/key/{key}/regenerate": {"POST": (keys.regenerate, True, False)},
            "/team/new": {"POST": (teams.new, True, True)}, "/team/info": {"GET": (teams.info, True, False)},
            "/team/list": {"GET": (teams.list, True, True)}, "/v2/team/list": {"GET": (teams.list_v2, True, True)},
            "/team/update": {"POST": (teams.update, True, True)}, "/team/delete": {"POST": (teams.delete, True, True)},
            "/user/new": {"POST": (teams.new_user, True, True)},
            "/v1/messages": {"POST": (llm.messages, True, False)},
            "/health": {"GET": (health.models, True, False)},
            "/health/readiness": {"GET": (health.ready, False, False)},
            "/health/liveliness": {"GET": (health.alive, False, False)},
            "/health/liveness": {"GET": (health.alive, False, False)},
        }
        if not self.errors.old:
            routes["/health/readiness/details"] = {"GET": (health.details, True, False)}
        for prefix in ("", "/v1"):
            routes[prefix + "/models"] = {"GET": (llm.models, True, False)}
            routes[prefix + "/chat/completions"] = {"POST": (llm.chat, True, False)}
            routes[prefix + "/embeddings"] = {"POST": (llm.embeddings, True, False)}
        return routes

    def __call__(self, request):
        """Answers one request on its connection."""
        if request.path.startswith("/_standin/"):
            self._send(request, self.control.answer(request))
            return
        entry = self.site.journal.open(request, self.process.number)
        rule = self.site.rules.take(self.process.number, request.method, request.path)
        if rule is not None:
            self._answer_with_failure(request, rule, entry)
            return
        response = self._outside(request)
        entry["status"] = response.status
        self._send(request, response, self.site.modes.oversize)

    def _answer_with_failure(self, request, rule, entry):
        entry.update(fault=True, status=0)
        if rule.when == "before":
            time.sleep(rule.delay)
            response = None if rule.ends() else self._outside(request)
        else:
            response = self._outside(request)
            time.sleep(rule.delay)
        if rule.hang:
            self._hang(request.connection, rule.released)
        if rule.duplicate_alias:
            response = respond(self.errors.alias_taken(entry["alias"]))
        elif rule.status is not None or response is None:
            response = respond(rule.failure())
        if rule.drop_after is not None:
            self._drop(request, response, rule.drop_after)
        entry["status"] = response.status
        self._send(request, response, self.site.modes.oversize)

    def _hang(self, connection, released):
        while not released.wait(0.05):
            if connection.client_left():
                break
        raise Closed

    def _drop(self, request, response, count):
        data = response.encode(self.site.clock.http_date(), False)
        request.connection.write(data[:count])
        raise Closed

    def _send(self, request, response, pad=0):
        connection = request.connection
        data = response.encode(self.site.clock.http_date(), connection.close, pad)
        connection.write(data)

    def _outside(self, request):
        """LiteLLM's answer, or a redirect in its place."""
        if self.site.modes.redirect:
            return Response(307, headers={"location": self.site.modes.redirect + request.target})
        try:
            with self.site.store.lock:
                answer = self._inside(request)
        except ApiError as refusal:
            response = respond(refusal)
        else:
            response = answer if isinstance(answer, Response) else Response(200, answer)
        response.headers = {**self.headers, **response.headers}
        return response

    def _inside(self, request):
        route, (handler, needs_credential, needs_database) = self._find(request)
        if request.method == "POST":
            request.data = parse_body(request, self.errors)
        caller = self.auth.authenticate(request, route) if needs_credential else Caller()
        if request.method == "POST":
            require_object(request, request.data)
        try:
            if needs_database and self.site.modes.db_down:
                raise ConnectionError
            return handler(request, caller)
        except ConnectionError:
            raise self._without_database(route) from None

    def _find(self, request):
        """-> (route, entry), or FastAPI's refusals: 404, 405, and 307 for a trailing slash."""
        path = request.path
        methods = self.routes.get(path)
        if methods is None and REGENERATE.fullmatch(path):
            path = "/key/{key}/regenerate"
            methods = self.routes[path]
        if methods is None:
            if path.endswith("/") and path[:-1] in self.routes:
                self._redirect_slash(request)
            raise detail(404, "Not Found")
        if request.method not in methods:
            raise detail(405, "Method Not Allowed", {"allow": ", ".join(methods)})
        return path, methods[request.method]

    def _redirect_slash(self, request):
        path, mark, query = request.target.partition("?")
        host = request.headers.get("host", "127.0.0.1")
        raise ApiError(307, None, {"location": f"http://{host}{path[:-1]}{mark}{query}"})

    def _without_database(self, route):
        """What each route makes of a database that is down."""
        if route == "/key/update":
            return self.errors.auth(DB_MESSAGE, 400)
        if route in ("/key/block", "/key/unblock", "/team/list", "/v2/team/list"):
            return self.errors.bare()
        if route == "/key/list":
            return error(500, "Authentication Error, " + DB_MESSAGE, "internal_server_error", "None")
        return self.errors.internal(DB_MESSAGE)


def respond(refusal):
    """An ApiError as a Response."""
    return Response(refusal.status, refusal.body, refusal.headers)
