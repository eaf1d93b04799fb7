"""An event loop on a descriptor that does not block; it must not spin."""
import asyncio, os, sys

fd = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
empty = 0


def readable():
    global empty
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        empty += 1
        if empty > 100:
            sys.exit("woken %d times for nothing" % empty)
        return
    if not data:
        loop.stop()
    os.write(1, data)


loop = asyncio.new_event_loop()
loop.add_reader(fd, readable)
loop.run_forever()
