package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/*.txtar, one behaviour each, shown with the tools
// a person would use. Beside the commands of testscript there are
//
//	daemon            start a daemon, with logfs.toml of the script if there is one
//	shutdown          stop it and check what it leaves
//	feed NAME         start a service that the script feeds
//	say NAME TEXT...  write each text as a line of the service, see it arrive
//	close NAME        end the service
//	need TOOL...      skip the script where a tool is missing
//
// and the variables M, the mount, STORE and LOGFS_SOCKET. What a script has
// under logdirs/ is in the store before the daemon starts.
func TestScripts(t *testing.T) {
	needFUSE(t)
	testscript.RunT(quietT{t}, testscript.Params{
		Dir:   "testdata",
		Setup: scriptSetup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"need":     func(ts *testscript.TestScript, _ bool, args []string) { needTools(scriptOf(ts).d.t, args...) },
			"daemon":   scriptDaemon,
			"shutdown": func(ts *testscript.TestScript, _ bool, _ []string) { scriptOf(ts).d.stop() },
			"feed":     scriptFeed,
			"say":      scriptSay,
			"close":    func(ts *testscript.TestScript, _ bool, args []string) { scriptOf(ts).feeds[args[0]].close() },
		},
	})
}

// quietT keeps testscript from printing scripts that pass.
type quietT struct{ *testing.T }

func (t quietT) Log(args ...any) {
	t.Cleanup(func() {
		if t.Failed() {
			t.T.Log(args...)
		}
	})
}

func (t quietT) Verbose() bool { return false }

func (t quietT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(quietT{t}) })
}

// A script is the state behind one running script.
type script struct {
	d     *daemon
	feeds map[string]*feed
}

func scriptOf(ts *testscript.TestScript) *script { return ts.Value("script").(*script) }

func scriptSetup(env *testscript.Env) error {
	conf, _ := os.ReadFile(filepath.Join(env.WorkDir, "logfs.toml"))
	d := newDaemon(env.T().(testing.TB), string(conf))
	env.Values["script"] = &script{d, map[string]*feed{}}
	env.Setenv("PATH", filepath.Dir(logfsBin)+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("M", d.mount)
	env.Setenv("STORE", d.store)
	env.Setenv("LOGFS_SOCKET", d.sock)
	env.Setenv("LC_ALL", "C.UTF-8")
	return nil
}

func scriptDaemon(ts *testscript.TestScript, _ bool, _ []string) {
	d := scriptOf(ts).d
	given := ts.MkAbs("logdirs")
	if _, err := os.Stat(given); err == nil {
		ts.Check(os.CopyFS(d.store, os.DirFS(given)))
		ts.Check(os.RemoveAll(given))
	}
	d.start()
}

func scriptFeed(ts *testscript.TestScript, _ bool, args []string) {
	s := scriptOf(ts)
	for _, name := range args {
		s.feeds[name] = s.d.feed(name)
	}
}

func scriptSay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: say NAME TEXT...")
	}
	f, ok := scriptOf(ts).feeds[args[0]]
	if !ok {
		ts.Fatalf("no feed %s", args[0])
	}
	for _, line := range args[1:] {
		f.say(line)
	}
}
