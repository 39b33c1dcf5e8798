"""Keeps Patroni as a service manager does: started whenever it does not run, as long as the file `run` is there.

What Patroni leaves behind when it is killed, its PostgreSQL above all, becomes a child of the keeper and is buried by it:
Patroni takes a server that is dead and not buried for one that runs. When the one who started the keeper is gone, or ends
it (SIGTERM), all of it is killed in one instant.

Usage: keeper.py DIRECTORY PROGRAM [ARGUMENT]...   writes Patroni's process id to DIRECTORY/patroni.pid
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def descendants(root):
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    parents[int(name)] = int(stat.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass  # It has ended meanwhile.
    found = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        grown = bool(more)
        found |= more
    return found - {root}


def kill_all():
    # Again, because one that is about to be killed may just have started another.
    while True:
        family = descendants(os.getpid())
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def main():
    directory, command = sys.argv[1], sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    parent, patroni = os.getppid(), None
    while not ended and os.getppid() == parent:
        try:
            while (buried := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if buried == patroni:
                    patroni = None
        except ChildProcessError:
            patroni = None
        if patroni is None and os.path.exists(os.path.join(directory, "run")):
            patroni = subprocess.Popen(command, stdin=subprocess.DEVNULL).pid
            with open(os.path.join(directory, "pid.new"), "w") as file:
                file.write(str(patroni))
            os.rename(os.path.join(directory, "pid.new"), os.path.join(directory, "patroni.pid"))
        time.sleep(0.05)
    kill_all()


main()
