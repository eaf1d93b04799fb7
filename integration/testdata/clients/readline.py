import sys

with open(sys.argv[1], "rb") as f:
    for line in iter(f.readline, b""):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
