import os, sys

fd = os.open(sys.argv[1], os.O_RDONLY)
while data := os.read(fd, 65536):
    os.write(1, data)
