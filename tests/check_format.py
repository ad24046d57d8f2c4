"""Names the C files that clang-format would change.

usage: check_format.py CLANG_FORMAT ROOT
Pinned to one major version: another one formats differently, and then a clean tree would fail.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

import csource

MAJOR = "14"  # Debian 12's


def differs(clang_format, path):
    result = subprocess.run([clang_format, "--dry-run", "-Werror", "--style=file", str(path)],
                            capture_output=True, text=True, check=False)
    return result.returncode != 0


def main(argv):
    clang_format, root = argv[1], pathlib.Path(argv[2]).resolve()
    version = subprocess.run([clang_format, "--version"], check=True, capture_output=True, text=True).stdout
    major = re.search(r"version (\d+)", version).group(1)
    if major != MAJOR:
        print(f"format: clang-format {MAJOR} is needed, {clang_format} is {major}")
        return 1
    paths = list(csource.files(root, [*csource.LAYERS.values(), *csource.TEST_FOLDERS]))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [p for p, bad in zip(paths, pool.map(lambda p: differs(clang_format, p), paths)) if bad]
    for path in wrong:
        print(f"{path.relative_to(root)}: not formatted (clang-format -i {path.relative_to(root)})")
    print(f"format: {len(paths)} files, {len(wrong)} differ")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
