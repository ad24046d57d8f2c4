"""The search for secrets in everything that the broker leaves behind."""

import os


def find(secrets, places):
    """places: name -> bytes. -> 'name holds secret number n' for each find, without the secret."""
    found = []
    for name, data in places.items():
        for number, secret in enumerate(sorted(secrets)):
            if secret.encode() in data:
                found.append(f"{name} holds {secret[:6]}… (secret {number}, {len(secret)} characters)")
    return found


def files_below(directory, exempt=()):
    """path -> bytes of every regular file."""
    places = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path) and path not in exempt:
                with open(path, "rb") as file:
                    places[path] = file.read()
    return places


def process_places(pid, unreadable):
    """What /proc shows of a running process: its environment and its arguments. unreadable: a list for paths."""
    places = {}
    for name in ("environ", "cmdline"):
        path = f"/proc/{pid}/{name}"
        try:
            with open(path, "rb") as file:
                places[path] = file.read()
        except PermissionError:
            unreadable.append(path)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return places
