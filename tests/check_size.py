"""Measures functions and files against the limits, prints the figures and fails beyond them.

usage: check_size.py ROOT
A function's length is the number of lines between its braces, which stand alone in column 0.
"""

import pathlib
import re
import statistics
import sys

import csource

MEDIAN, PERCENTILE_90, LONGEST, PARAMETERS, NESTING = 15, 40, 80, 6, 3
FILE_LINES = {".c": 500, ".h": 120}
PUBLIC = {"clients/c/keybroker.h": 200}  # what others include is one header, and says all
CONTROL = re.compile(r"^(?:\}\s*)?(?:if|else|for|while|do|switch|case|default|[A-Z_]+(?:FOREACH|ITER)\w*)\b")
LABEL = re.compile(r"^(?:case\b.*|\w+):$")


def parameters(signature):
    """The number of parameters of a function definition's text, from its name to the closing parenthesis."""
    depth, count, text = 0, 0, ""
    for c in signature[signature.index("("):]:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(c, 0)
        if depth == 0:
            break
        if c == "," and depth == 1:
            count += 1
        text += c
    return 0 if text[1:].strip() in ("", "void") else count + 1


def name_and_signature(lines, brace):
    """Gathers the definition's head: the lines above the brace up to something that ends another."""
    start = brace
    while start > 0:
        above = lines[start - 1].strip()
        if not above or above.startswith("#") or above.endswith((";", "}", ":")):
            break
        start -= 1
    head = " ".join(line.strip() for line in lines[start:brace])
    head = re.sub(r"\b(_\w+_|__attribute__)\s*\((?:[^()]|\([^()]*\))*\)", "", head)
    match = re.search(r"(\w+)\s*\(", head)
    return (match.group(1), head[match.start(1):]) if match else (None, None)


def nesting(body):
    """The depth of control flow: how far the deepest statement is indented. Initialisers do not count."""
    deepest = parens = 0
    starts, head, table_end = True, False, None
    for line in (raw.rstrip() for raw in body if raw.strip()):
        text, indent = line.strip(), len(line) - len(line.lstrip("\t"))
        if table_end is not None:
            starts, table_end = True, None if line.startswith(table_end) else table_end
            continue
        if starts:
            deepest = max(deepest, indent - 1)
            head = bool(CONTROL.match(text)) or text == "{"
        parens += text.count("(") - text.count(")")
        if text.endswith("{") and not head and "=" in text:
            table_end = "\t" * indent + "}"
        starts = parens == 0 and (head or text.endswith((";", "{", "}")) or bool(LABEL.match(text)))
    return deepest


def functions(path):
    """Yields (name, first line, length, parameters, nesting) for each function defined in a file."""
    lines = csource.strip(path.read_text()).split("\n")
    i = 0
    while i < len(lines):
        if lines[i].rstrip() != "{":
            i += 1
            continue
        name, signature = name_and_signature(lines, i)
        end = next((j for j in range(i + 1, len(lines)) if lines[j].startswith("}")), None)
        if end is None:
            raise SystemExit(f"{path}:{i + 1}: no closing brace in column 0")
        if name:
            yield name, i + 1, end - i - 1, parameters(signature), nesting(lines[i + 1:end])
        i = end + 1


def check_function(where, length, n_parameters, depth):
    if length > LONGEST:
        yield f"{where}: {length} lines (at most {LONGEST})"
    if n_parameters > PARAMETERS:
        yield f"{where}: {n_parameters} parameters (at most {PARAMETERS})"
    if depth > NESTING:
        yield f"{where}: nested {depth} deep (at most {NESTING})"


def file_limit(rel):
    """A test's header may hold fixtures, so that it counts as code."""
    return PUBLIC.get(rel.as_posix()) or FILE_LINES[".c" if rel.parts[0] == "tests" else rel.suffix]


def measure(root, folders):
    """Returns (lengths with their places, errors) over all files of the folders."""
    lengths, errors = [], []
    for path in csource.files(root, folders):
        rel = path.relative_to(root)
        n_lines, limit = len(path.read_text().splitlines()), file_limit(rel)
        if n_lines > limit:
            errors.append(f"{rel}: {n_lines} lines (at most {limit})")
        for name, line, length, n_parameters, depth in functions(path):
            where = f"{rel}:{line} {name}()"
            lengths.append((length, where))
            errors += check_function(where, length, n_parameters, depth)
    return sorted(lengths), errors


def main(argv):
    root = pathlib.Path(argv[1]).resolve()
    lengths, errors = measure(root, csource.LAYERS.values())
    errors += measure(root, csource.TEST_FOLDERS)[1]
    if not lengths:
        print("size: no function found")
        return 1
    figures = [length for length, _ in lengths]
    median, p90 = statistics.median(figures), figures[int(0.9 * (len(figures) - 1))]
    if median > MEDIAN:
        errors.append(f"the median function has {median} lines (at most {MEDIAN})")
    if p90 > PERCENTILE_90:
        errors.append(f"the 90th percentile is {p90} lines (at most {PERCENTILE_90})")
    for error in errors:
        print(error)
    print(f"size: {len(lengths)} functions, median {median:g}, 90th percentile {p90}, "
          f"longest {lengths[-1][0]} ({lengths[-1][1]}), {len(errors)} violations")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
