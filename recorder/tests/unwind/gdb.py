# Run by gdb in the process that it is attached to: backtraces at calls of malloc, to the outermost
# frame. After each `stack` a line per frame, leaf first: `frame ADDRESS NAME`. Functions that were
# inlined, or left by a jump (gdb guesses them from debug information), are no frames. What gdb
# itself says is on other lines.
import random

import gdb

for setting in ("pagination off", "confirm off", "backtrace past-main on", "backtrace past-entry on", "backtrace limit 200"):
    gdb.execute("set " + setting)
entry = gdb.Breakpoint("malloc")
for _ in range(COUNT):
    # By chance: a stride could fall in step with the program.
    entry.ignore_count = random.randrange(200)
    gdb.execute("continue", to_string=True)
    print("stack")
    frame = gdb.newest_frame().older()
    while frame is not None:
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            print("frame", hex(frame.pc()), frame.name() or "")
        frame = frame.older()
entry.delete()
gdb.execute("detach")
