"""Checks that includes go to the left only, that one library has one module, and that core stays pure.

usage: check_layers.py ROOT [CLI_BINARY]    with the CLI's binary it also checks what that links
"""

import fnmatch
import pathlib
import re
import subprocess
import sys

import csource

# What a layer may include, itself apart.
LEFT = {
    "base": (),
    "proto": ("base",),
    "client": ("base", "proto"),
    "core": ("base",),
    "io": ("base", "core", "proto"),
    "daemon": ("base", "core", "proto", "io"),
    "audit": ("base", "core", "io"),
    "cli": ("base", "proto", "client"),
}
# Which headers a layer's names resolve to: "base/buf.h" is the layer base.
PREFIX = {"base": "base", "proto": "proto", "clients/c": "client", "core": "core", "io": "io",
          "daemon": "daemon", "audit": "audit", "cli": "cli"}

# One library, one module: header -> the only files that may include it.
OWNERS = {
    "sqlite3.h": ("src/io/store*",),
    "curl/*": ("src/io/http*",),
    "msgpack*": ("proto/*",),
    "sodium*": ("src/base/crypt*.c", "src/base/secret.c", "src/base/buf.c", "src/base/map.c"),
    "jansson.h": ("src/base/json.c",),
    "confuse.h": ("src/io/config*",),
    "uthash.h": ("src/base/map.h",),
    "event*": ("src/io/*", "src/daemon/*"),
    "cmocka.h": (),
}

# core decides and touches nothing: the headers it may see, and the calls it may not make even so.
# (arpa/inet.h, fnmatch.h: inet_pton() and fnmatch() read a text and ask nobody.)
CORE_HEADERS = {
    "arpa/inet.h", "assert.h", "ctype.h", "errno.h", "fnmatch.h", "inttypes.h", "limits.h", "math.h", "stdarg.h", "stdbool.h",
    "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "string.h", "strings.h", "sys/types.h", "time.h",
}
CORE_FORBIDDEN = re.compile(
    r"\b(time|clock|clock_gettime|gettimeofday|clock_now|clock_monotonic_nsec|getenv|secure_getenv|"
    r"setenv|fopen|freopen|popen|system|open|printf|puts|putchar|fputs|fprintf|perror|rand|random|"
    r"arc4random|crypt_random|crypt_draw_key|crypt_draw_id|getpid|getuid|gethostname)\s*\(")
CORE_FORBIDDEN_HEADERS = {"base/fd.h"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
CLI_MUST_NOT_LINK = ("libcurl", "libsqlite3", "libevent", "libconfuse")


def layer_of_header(name):
    folder = name.rpartition("/")[0]
    return PREFIX.get(folder)


def check_include(rel, layer, quote, name):
    """Yields what is wrong with one include line."""
    other = layer_of_header(name)
    if quote == '"' and other is None:
        yield f'"{name}" names no layer\'s folder'
    if other is not None and other != layer and other not in LEFT[layer]:
        yield f'{layer} must not include {other} ("{name}")'
    for pattern, owners in OWNERS.items():
        if fnmatch.fnmatch(name, pattern) and quote == "<":
            if not any(fnmatch.fnmatch(rel, owner) for owner in owners):
                yield f"<{name}> belongs to {', '.join(owners) or 'no layer'}"
    if layer == "core":
        if quote == "<" and name not in CORE_HEADERS:
            yield f"core makes no system call: <{name}>"
        if name in CORE_FORBIDDEN_HEADERS:
            yield f'core makes no system call: "{name}"'


def check_header(text):
    """A header starts with #pragma once, its comment apart, and is no umbrella."""
    code = csource.strip_comments(text)
    lines = [line for line in code.splitlines() if line.strip()]
    if not lines or lines[0].strip() != "#pragma once":
        yield "#pragma once is not the first line of code"
    if lines and all(line.startswith("#") for line in lines):
        if len(INCLUDE.findall(code)) > 1:
            yield "an umbrella header: it only includes others"


def check_own_header(path, includes):
    """src/core/lease.c includes core/lease.h first, so that the header is proven self-contained."""
    if not path.with_suffix(".h").exists():
        return
    first = includes[0][1] if includes else ""
    if pathlib.PurePath(first).name != path.with_suffix(".h").name:
        yield f"its own header is not its first include ({first or 'none'})"


def check_file(root, layer, path):
    rel = path.relative_to(root).as_posix()
    text = path.read_text()
    includes = INCLUDE.findall(csource.strip_comments(text))
    for quote, name in includes:
        yield from check_include(rel, layer, quote, name)
    if path.suffix == ".h":
        yield from check_header(text)
    else:
        yield from check_own_header(path, includes)
    if layer == "core":
        for match in CORE_FORBIDDEN.finditer(csource.strip(text)):
            yield f"core makes no system call: {match.group(1)}()"


def check_links(binary):
    """The CLI stands on the C client alone: a library of the daemon's would cost each `get` its start."""
    out = subprocess.run(["readelf", "-d", binary], check=True, capture_output=True, text=True).stdout
    for name in re.findall(r"\(NEEDED\).*\[(.+?)\]", out):
        if name.startswith(CLI_MUST_NOT_LINK):
            yield f"{binary} links {name}"


def main(argv):
    root = pathlib.Path(argv[1]).resolve()
    errors, n_files = [], 0
    for layer, folder in csource.LAYERS.items():
        for path in csource.files(root, [folder]):
            n_files += 1
            errors += [f"{path.relative_to(root)}: {e}" for e in check_file(root, layer, path)]
    for binary in argv[2:]:
        errors += check_links(binary)
    for error in errors:
        print(error)
    print(f"layers: {n_files} files, {len(errors)} violations")
    return 1 if errors or n_files == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
