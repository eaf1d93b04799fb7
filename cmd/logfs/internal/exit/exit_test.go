package exit

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

func TestStatus(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want int
	}{
		{"nothing wrong", nil, 0},
		{"with a nil error", With(Misuse, nil), 0},
		{"misuse", Misusef("no such command %q", "x"), 100},
		{"refused", Refusedf("cannot mount"), 111},
		{"an error nobody classified", errors.New("boom"), 111},
		{"wrapped", fmt.Errorf("up: %w", Misusef("bad")), 100},
		{"the outermost wins", With(Refused, Misusef("bad")), 111},
	}
	for _, tt := range tests {
		if got := Status(tt.err); got != tt.want {
			t.Errorf("%s: Status = %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestErrorKeepsItsCause(t *testing.T) {
	err := Refusedf("cannot open %q: %w", "x", fs.ErrNotExist)
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != `cannot open "x": file does not exist` {
		t.Errorf("got %v", err)
	}
}

func TestSignal(t *testing.T) {
	if got := Signal(syscall.SIGKILL); got != 137 {
		t.Errorf("Signal(KILL) = %d, want 137", got)
	}
}
