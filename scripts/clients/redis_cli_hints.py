"""What redis-cli shows to a person who types: `python redis_cli_hints.py PORT TYPED WANTED [FLAG …]`.

Runs redis-cli on a terminal of its own, types TYPED, and reads until the terminal shows WANTED: exit code 0.
Hints and completion come from COMMAND DOCS and are shown on a terminal only.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

SECONDS_MAX = 10

port, typed, wanted = sys.argv[1:4]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    # Of a terminal without a size redis-cli would ask where its cursor is, and wait for the answer.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    os.execvp("redis-cli", ["redis-cli", "-p", port, *sys.argv[4:]])
shown = b""
sent = False
deadline = time.monotonic() + SECONDS_MAX
found = False
while time.monotonic() < deadline and not found:
    ready, _, _ = select.select([terminal], [], [], 0.1)
    if ready:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
    if not sent and b"> " in shown:
        os.write(terminal, typed.encode().decode("unicode_escape").encode())
        sent = True
    plain = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", shown)
    found = sent and wanted.encode() in plain
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
if not found:
    print("shown:", shown, file=sys.stderr)
sys.exit(0 if found else 1)
