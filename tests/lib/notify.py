#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A service manager for one service: runs COMMAND with NOTIFY_SOCKET set and writes what it tells into FILE.

    notify.py FILE COMMAND [ARG...]

FILE gets "PID=n" first, each line of the service's notifications, and "EXITED=status" when it has ended: a test waits
for READY=1 or EXITED by inotify and never guesses a time. With WATCHDOG_USEC in the environment a ready service that
gives no sign of life for that long is noted as WATCHDOG=missed, once for each silence.
"""
import os
import selectors
import signal
import socket
import sys
import time


def main():
    path = sys.argv[1] + ".sock"
    if os.path.exists(path):
        os.unlink(path)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(path)
    child = os.fork()
    if child == 0:
        os.environ["NOTIFY_SOCKET"] = path
        notify.close()
        try:
            os.execvp(sys.argv[2], sys.argv[2:])
        except OSError as error:
            print(f"notify.py: {sys.argv[2]}: {error}", file=sys.stderr)
            os._exit(127)
    watchdog = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    deadline = None
    with open(sys.argv[1], "w", buffering=1, encoding="utf-8", errors="replace") as out:
        out.write(f"PID={child}\n")
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
        pidfd = os.pidfd_open(child)
        selector = selectors.DefaultSelector()
        selector.register(pidfd, selectors.EVENT_READ)
        selector.register(notify, selectors.EVENT_READ)
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            ready = [key.fd for key, _ in selector.select(left)]
            if notify.fileno() in ready:
                text = notify.recv(4096).decode("utf-8", "replace").rstrip("\n")
                out.write(text + "\n")
                if watchdog and {"READY=1", "WATCHDOG=1"} & set(text.split("\n")):
                    deadline = time.monotonic() + watchdog
            elif pidfd in ready:
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                out.write(f"EXITED={status}\n")
                return 128 - status if status < 0 else status
            elif deadline is not None and time.monotonic() >= deadline:
                out.write("WATCHDOG=missed\n")
                deadline = None


if __name__ == "__main__":
    sys.exit(main())
