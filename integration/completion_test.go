package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// completions are what is typed before Tab, and what is then on the line, up
// to the X that is typed next.
var completions = []struct{ typed, line string }{
	{"logfs rot", "logfs rotate X"},
	{"logfs run --soc", "logfs run --socket X"},
	{"logfs rotate we", "logfs rotate web X"},
	{"logfs flush web a", "logfs flush web a:b@1 X"},
	{"logfs flush web a:", "logfs flush web a:b@1 X"},
	{"logfs flush web a:b@", "logfs flush web a:b@1 X"},
	{"logfs check --config logf", "logfs check --config logfs.toml X"},
	{"logfs unmount s", "logfs unmount store/X"}, // sock is no directory
	{"logfs up -f logf", "logfs up -f logfs.toml X"},
	{"logfs run web -- sha256su", "logfs run web -- sha256sum X"},
	{"logfs run a:b@1 -- sha256su", "logfs run a:b@1 -- sha256sum X"},
	{"logfs run web -- cat logf", "logfs run web -- cat logfs.toml X"},
	{"logfs help unm", "logfs help unmount X"},
	{"logfs completion fi", "logfs completion fish X"},
	{"logfs nonsense ", "logfs nonsense X"},
	{"logfs rotate --socket ./nowhere we", "logfs rotate --socket ./nowhere weX"},
	{"LOGFS_SOCKET=./nowhere logfs status --so", "logfs status --socket X"},
}

// shells are interactive shells with nothing but our script: rc is the file that
// start has them read.
var shells = []struct{ name, file, rc, start string }{
	{
		"bash", "rc", "PS1='> '\nsource <(logfs completion bash)\n",
		"exec bash --noprofile --rcfile rc -i",
	},
	{
		"zsh", ".zshrc", "PS1='> '\nautoload -U compinit && compinit -u -D\nsource <(logfs completion zsh)\n",
		"ZDOTDIR=$PWD exec zsh -i",
	},
	{
		"fish", "rc.fish", "function fish_prompt; printf '> '; end\nfunction fish_greeting; end\nlogfs completion fish | source\n",
		"HOME=$PWD exec fish --no-config -C 'source rc.fish'",
	},
}

// Real shells, in a window, complete what is typed.
func TestCompletion(t *testing.T) {
	needTools(t, "tmux", "bash", "zsh", "fish", "sha256sum")
	for _, sh := range shells {
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			d := startDaemon(t, "[service.web]\n[service.\"a:b@1\"]\n")
			must(t, os.WriteFile(filepath.Join(d.dir, sh.file), []byte(sh.rc), 0o644))
			s := d.terminal(t, fmt.Sprintf("cd %s && export PATH=%s:$PATH LOGFS_SOCKET=%s && %s",
				d.dir, filepath.Dir(logfsBin), d.sock, sh.start))
			s.shows("> ")
			for _, c := range completions {
				s.keys("-l", c.typed)
				s.keys("Tab", "X")
				s.shows(c.line)
				s.keys("C-u")
			}
			s.keys("-l", "exit")
			s.keys("Enter")
			s.closes()
		})
	}
}

// A daemon that does not answer holds up nobody who presses Tab.
func TestCompletionWithoutAnswer(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, "[service.web]\n")
	must(t, d.cmd.Process.Signal(syscall.SIGSTOP))
	defer func() { must(t, d.cmd.Process.Signal(syscall.SIGCONT)) }()
	if r := d.logfs("completion", "--", "rotate", ""); r != (result{}) {
		t.Errorf("completion with a stopped daemon: %+v, want nothing", r)
	}
}
