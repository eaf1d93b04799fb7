package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// offered is what stands in the place of the last word, without remarks.
func offered(t *testing.T, words ...string) []string {
	t.Helper()
	status, out, stderr := logfs(append([]string{"completion", "--"}, words...)...)
	if status != 0 || stderr != "" {
		t.Errorf("completion of %q: status %d, %q", words, status, stderr)
	}
	var names []string
	for line := range strings.Lines(out) {
		name, remark, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if strings.ContainsAny(remark, "\t\n") {
			t.Errorf("completion of %q has the remark %q, want one field", words, remark)
		}
		names = append(names, name)
	}
	return names
}

func TestCompletionHasEveryCommandAndFlag(t *testing.T) {
	all, helped := offered(t, ""), offered(t, "help", "")
	for _, c := range commands() {
		if !slices.Contains(all, c.name) || !slices.Contains(helped, c.name) {
			t.Errorf("completion has no command %s", c.name)
		}
		got := offered(t, c.name, "-")
		flags, _ := c.flags()
		flags.VisitAll(func(f *pflag.Flag) {
			if !slices.Contains(got, "--"+f.Name) || f.Shorthand != "" && !slices.Contains(got, "-"+f.Shorthand) {
				t.Errorf("completion of %s has %q, but not all names of --%s", c.name, got, f.Name)
			}
			if f.NoOptDefVal != "" {
				return // it takes no value
			}
			kind, _ := pflag.UnquoteUsage(f)
			want, known := map[string][]string{"FILE": {":files"}, "DIR": {":dirs"}, "N": nil}[kind]
			if value := offered(t, c.name, "--"+f.Name, ""); !known || !slices.Equal(value, want) {
				t.Errorf("completion of %s --%s %s is %q, want %q", c.name, f.Name, kind, value, want)
			}
		})
	}
}

// Each operand that a usage can name is known to the completion.
func TestCompletionOfOperands(t *testing.T) {
	nobody := []string{"--socket", t.TempDir() + "/nobody"}
	for _, c := range commands() {
		usage := strings.Fields(strings.Trim(c.args, "[]"))
		if strings.HasPrefix(c.args, "[-") {
			usage = nil // flags
		}
		for n, name := range usage {
			words := []string{c.name}
			if flags, _ := c.flags(); flags.Lookup("socket") != nil {
				words = append(words, nobody...)
			}
			words = append(words, usage[:n]...)
			var want []string
			switch strings.TrimSuffix(name, "...") {
			case "NAME": // silent without a daemon
			case "DIR":
				want = []string{":dirs"}
			case "--":
				want = []string{"--"}
			case "COMMAND":
				want = []string{":command 6"}
			case shells:
				want = []string{"bash", "zsh", "fish"}
			default:
				t.Errorf("%s has operand %q, which no completion knows", c.name, name)
			}
			if got := offered(t, append(words, "")...); !slices.Equal(got, want) {
				t.Errorf("completion of %q is %q, want %q", words, got, want)
			}
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	for shell := range strings.SplitSeq(shells, "|") {
		if status, out, stderr := logfs("completion", shell); status != 0 || !strings.Contains(out, "completion --") {
			t.Errorf("completion %s: status %d, %q, %q", shell, status, out, stderr)
		}
	}
	for _, args := range [][]string{{}, {"tcsh"}, {"bash", "zsh"}, {"../bash"}} {
		if status, out, stderr := logfs(append([]string{"completion"}, args...)...); status != 100 || out != "" || !strings.Contains(stderr, "fish") {
			t.Errorf("completion %q: status %d, %q, %q; want 100 and the shells there are", args, status, out, stderr)
		}
	}
	if got := offered(t); got != nil {
		t.Errorf("completion of nothing: %q", got)
	}
}
