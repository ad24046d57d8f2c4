"""What the checks share: which C files are the project's, and C text without comments and strings."""

import pathlib
import re

LAYERS = {
    "base": "src/base",
    "proto": "proto",
    "client": "clients/c",
    "core": "src/core",
    "io": "src/io",
    "daemon": "src/daemon",
    "audit": "src/audit",
    "cli": "src/cli",
}
TEST_FOLDERS = ("tests/unit", "tests/fuzz", "tests/bench", "tests/chaos")


def files(root, folders, suffixes=(".c", ".h")):
    """Sorted paths below the folders (one level: a layer is flat)."""
    for folder in folders:
        for path in sorted((pathlib.Path(root) / folder).glob("*")):
            if path.suffix in suffixes:
                yield path


_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def _blank(match):
    """Keeps the line breaks, so that line numbers stay true, and the quotes of a literal."""
    text = match.group()
    if text.startswith("/"):
        return re.sub(r"[^\n]", " ", text)
    return text[0] + " " * (len(text) - 2) + text[-1]


def strip(text):
    """The text with comments and the insides of string and character literals blanked."""
    return _TOKEN.sub(_blank, text)


def strip_comments(text):
    return _TOKEN.sub(lambda m: _blank(m) if m.group().startswith("/") else m.group(), text)
