"""How rows look in answers. The fields and their order are those of the recorded answers (recorded/shapes.json)."""

import json
import os

import clock as times
from store import TIMES

SHAPES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recorded", "shapes.json")


class Views:
    """Fills the shapes of one version."""

    def __init__(self, version):
        with open(SHAPES, encoding="utf-8") as file:
            self.shapes = json.load(file)[version]

    def _fill(self, shape, row, form):
        view = dict(self.shapes[shape])
        for name, value in row.items():
            if name in view:
                view[name] = form(value) if value is not None and name in TIMES else value
        return view

    def generated(self, row, key, expires, created_at):
        """/key/generate: what was asked for, whether or not it was stored."""
        view = self._fill("generate", row, times.zulu)
        view["key"], view["token_id"] = key, row["token"]
        view["expires"] = None if expires is None else times.zulu(expires)
        view["created_at"] = view["updated_at"] = times.zulu(created_at)
        return view

    def info(self, row):
        """The info object of /key/info."""
        return self._fill("info", row, times.offset_format)

    def updated(self, row, key):
        """/key/update."""
        return {"key": key, "token": row["token"], **self.info(row)}

    def blocked(self, row):
        """/key/block."""
        return self._fill("block", row, times.zulu)

    def unblocked(self, row):
        """/key/unblock."""
        return {"token": row["token"], **self._fill("info", row, times.zulu)}

    def listed(self, row):
        """One entry of /key/list?return_full_object=true."""
        return self._fill("list", row, times.zulu)

    def team(self, shape, row):
        """A team: shape is team_new, team_info, team_list or team_v2."""
        return self._fill(shape, row, times.zulu)

    def user(self, row):
        """/user/new."""
        return self._fill("user_new", row, times.zulu)
