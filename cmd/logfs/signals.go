package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// signals are those that this process passes on.
type signals struct{ received chan os.Signal }

// catch has the signals delivered, except those that whoever started us wants
// to be ignored: the command inherits that.
func catch(wanted ...os.Signal) signals {
	s := signals{make(chan os.Signal, 16)}
	for _, sig := range wanted {
		if !signal.Ignored(sig) {
			signal.Notify(s.received, sig)
		}
	}
	return s
}

func (s signals) stop() {
	signal.Stop(s.received)
	close(s.received)
}

// forward passes signals on to the command. Those that come from the terminal
// it has got already, being in our process group.
func (s signals) forward(to *os.Process) {
	for sig := range s.received {
		if !fromTerminal(sig) {
			_ = to.Signal(sig) // it may have ended by now
		}
		if sig == unix.SIGTSTP {
			_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		}
	}
}

// fromTerminal says whether sig is most likely from the terminal's driver,
// which signals the whole foreground process group.
func fromTerminal(sig os.Signal) bool {
	switch sig {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGWINCH:
	default:
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
