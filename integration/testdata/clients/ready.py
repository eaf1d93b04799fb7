"""Read only when select, poll or epoll says that there is something."""
import os, select, sys

how, path = sys.argv[1:]
fd = os.open(path, os.O_RDONLY)
if how == "select":
    wait = lambda: select.select([fd], [], [])
elif how == "poll":
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    wait = poller.poll
else:
    poller = select.epoll()
    poller.register(fd, select.EPOLLIN)
    wait = poller.poll
while True:
    wait()
    data = os.read(fd, 4096)
    if not data:
        break
    os.write(1, data)
