"""Checks every tracked text file for what must not be published: one machine's paths, leftovers, keys.

usage: check_text.py ROOT
"""

import pathlib
import re
import subprocess
import sys

RULES = [
    ("an absolute home path", re.compile(r"(?<![\w.$}])/(?:root|home/[a-z]\w*|Users/\w+|work)/\w")),
    ("a path beside the project", re.compile(r"\.\./shared")),
    ("an unfinished note", re.compile(r"\b(?:TODO|FIXME|XXX)\b")),
    ("a merge conflict's mark", re.compile(r"^(?:<{7}|>{7}|={7})(?: |$)", re.M)),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("white space at a line's end", re.compile(r"[ \t]+$", re.M)),
]
# (path, what): where a rule is meant not to hold.
EXCEPTIONS = {
    (".ci/run", "a path beside the project"),  # finds the lab's LiteLLM where there is one
    ("tests/check_text.py", "an unfinished note"),
    ("tests/check_text.py", "a path beside the project"),
    ("LICENSE", "white space at a line's end"),
}


def tracked(root):
    """What git tracks or would track; without git, all files but builds."""
    try:
        out = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             check=True, capture_output=True).stdout
        return sorted({root / name for name in out.decode().split("\0") if name})
    except (OSError, subprocess.CalledProcessError):
        return sorted(p for p in root.rglob("*") if p.is_file() and not {"build", ".git"} & set(p.relative_to(root).parts))


def text_of(path):
    """None for a binary file or one that is gone."""
    try:
        data = path.read_bytes()
        return None if b"\0" in data else data.decode()
    except (OSError, UnicodeDecodeError):
        return None


def check(root, path):
    rel, text = path.relative_to(root).as_posix(), text_of(path)
    if text is None or "/corpus/" in rel:
        return
    for what, pattern in RULES:
        match = pattern.search(text)
        if match and (rel, what) not in EXCEPTIONS:
            yield f"{rel}:{text.count(chr(10), 0, match.start()) + 1}: {what}"


def main(argv):
    root = pathlib.Path(argv[1]).resolve()
    paths = tracked(root)
    errors = [error for path in paths for error in check(root, path)]
    for error in errors:
        print(error)
    print(f"text: {len(paths)} files, {len(errors)} violations")
    return 1 if errors or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
