#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Shows what bash is told, and which programs it starts for that: python own.py [--bash PATH] [--uid UID] [-n N]"""

import argparse
import sys

import pyebpf

parser = argparse.ArgumentParser(description="Show what bash is told, and which programs it starts.")
parser.add_argument("--bash", default="bash", help="which bash (default: the one in $PATH)")
parser.add_argument("--uid", type=int, help="only this user's")
parser.add_argument("-n", type=int, default=0, help="end after so many events")
arguments = parser.parse_args()

with pyebpf.Object.open("own.bpf.o") as own:
    if arguments.uid is not None:
        own.rodata["only_uid"] = arguments.uid  # a constant of the program: set it before load()
    own.load()
    own.programs["on_line"].attach_uretprobe(arguments.bash, "readline")
    own.programs["on_start"].attach_uprobe(arguments.bash, "shell_execve")
    kinds = {number: name.lower() for name, number in own.btf.enumerators("kind").items()}

    print("Tracing bash. Ctrl-C to end.", file=sys.stderr)
    print(f"{'PID':>7} {'UID':>5} {'SHELL':<8} {'WHAT':<8} TEXT")
    try:
        for number, event in enumerate(own.ring("events"), 1):
            text = event.text.decode(errors="replace")
            print(f"{event.pid:>7} {event.who.uid:>5} {event.who.shell.decode():<8} {kinds[event.kind]:<8} {text}")
            if number == arguments.n:
                break
    except KeyboardInterrupt:
        pass
    for who, started in own.maps["counts"].items():
        print(f"{who.shell.decode()} of user {who.uid} started {started}")
    if own.bss["events_dropped"]:
        print(f"{own.bss['events_dropped']} events are missing: the buffer was full", file=sys.stderr)
