package main

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"logfs/cmd/logfs/internal/control"
	"logfs/cmd/logfs/internal/exit"
)

// runExact runs argv with its streams in the files of the mount. There is no
// pipe to hold: what is written is captured when the write returns.
func runExact(c *console, p places, name string, argv []string) (status int, err error) {
	way, err := p.connect(c, name)
	if err != nil {
		return 0, err
	}
	defer func() { warn(c, way.close()) }()
	r, err := way.Attach(control.Attach{Name: name, Kind: control.Written})
	if err != nil {
		return 0, err
	}
	defer r.Detach()
	ends, err := openStreams(r, name)
	if err != nil {
		return 0, err
	}
	defer closeFiles(ends)
	return attend(c, name, commandOf(argv, ends), r, ends)
}

// openStreams opens the files of the mount that a command is to write to. It
// does so without Go's poller: the mount may be served by this process, and the
// runtime would wait for itself.
func openStreams(r control.Run, name string) (ends []*os.File, err error) {
	m, ok := r.(control.Mounted)
	if !ok || m.Mount() == "" {
		return nil, exit.Refusedf("cannot keep the exact order: the daemon does not know how")
	}
	for _, stream := range []string{"stdout", "stderr"} {
		path := filepath.Join(m.Mount(), name, stream, "current")
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
		if err != nil {
			closeFiles(ends)
			return nil, exit.Refusedf("cannot open %q to write: %w", path, err)
		}
		ends = append(ends, os.NewFile(uintptr(fd), path))
	}
	return ends, nil
}
