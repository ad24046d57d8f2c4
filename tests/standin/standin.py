#!/usr/bin/env python3
"""A stand-in for LiteLLM's proxy: answers as recorded, keeps its "database" in memory, fails when told to."""

import argparse
import os
import signal

from http_server import Server
from app import Site

VERSIONS = ("1.102.4", "1.80.11")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: choose one")
    parser.add_argument("--second-port", type=int, help="a second proxy process on the same database; 0: choose")
    parser.add_argument("--litellm", choices=VERSIONS, default=VERSIONS[0])
    parser.add_argument("--master-key", default="sk-standin-master")
    parser.add_argument("--port-file", help="written when listening: the port, then the second port")
    parser.add_argument("--cache-seconds", type=float, default=60, help="how long a process trusts its copy of a key")
    parser.add_argument("--keep-alive", type=float, default=5, help="seconds until an idle connection is closed")
    parser.add_argument("--state-file", help="the database: read at the start, written at the end")
    parser.add_argument("--quiet", action="store_true")
    return parser.parse_args()


def write_ports(path, ports):
    """The ports, one a line, atomically."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.writelines(f"{port}\n" for port in ports)
    os.replace(temporary, path)


def main():
    """Serves until SIGTERM or SIGINT."""
    options = arguments()
    ends = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # in the threads to come, too: they are waited for here
    site = Site(options.litellm, options.master_key, options.cache_seconds)
    if options.state_file:
        site.store.load(options.state_file)
    ports = [options.port] + ([] if options.second_port is None else [options.second_port])
    servers = [Server(port, site.add_process(), options.keep_alive) for port in ports]
    for server in servers:
        server.start()
    if options.port_file:
        write_ports(options.port_file, [server.port for server in servers])
    if not options.quiet:
        print(f"standin: http://127.0.0.1:{servers[0].port} (as LiteLLM {options.litellm}, "
              f"master key {options.master_key})", flush=True)
    signal.sigwait(ends)
    for server in servers:
        server.stop()
    if options.state_file:
        site.store.save(options.state_file)


if __name__ == "__main__":
    main()
