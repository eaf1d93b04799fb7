package exit

import (
	"errors"
	"fmt"
	"syscall"
)

// The exit statuses of logfs, those of daemontools. `logfs run` passes on the
// status of its command instead when the command was started.
const (
	// OK says that all that was asked was done.
	OK = 0
	// Found says that logfs verify has found something.
	Found = 1
	// Misuse says that the caller has to change something: a flag, a name or
	// a configuration.
	Misuse = 100
	// Refused says that the system would not do it, or something that runs is
	// in the way: a daemon on the same store, socket or mount.
	Refused = 111

	// signalBase is what shells add to the number of a fatal signal.
	signalBase = 128
)

// Signal returns the status of a command that signal s ended.
func Signal(s syscall.Signal) int { return signalBase + int(s) }

type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// Misusef formats an error that ends the program with Misuse.
func Misusef(format string, args ...any) error {
	return With(Misuse, fmt.Errorf(format, args...))
}

// Refusedf formats an error that ends the program with Refused.
func Refusedf(format string, args ...any) error {
	return With(Refused, fmt.Errorf(format, args...))
}

// With makes err end the program with status. A nil err stays nil.
func With(status int, err error) error {
	if err == nil {
		return nil
	}
	return &statusError{status, err}
}

// Status returns the exit status that belongs to err: OK for nil, what With
// said, else Refused.
func Status(err error) int {
	var s *statusError
	switch {
	case err == nil:
		return OK
	case errors.As(err, &s):
		return s.status
	}
	return Refused
}
