package daemon

import (
	"strings"
	"testing"
)

// Holders that end at once are started ever more rarely, and the daemon says so
// twice: at the first, and when it has become clear that none lives.
func TestHoldersThatDoNotLive(t *testing.T) {
	o := newOptions(t)
	var said events
	o.Log = said.logger()
	k := keptMount{d: newDaemon(o), again: backoff{first: holderAgain, max: holderAtMost}}
	for range 30 {
		before := k.again.wait
		k.say(before, k.again.after(0))
	}
	if k.again.wait != holderAtMost {
		t.Errorf("after 30 holders the next one is started after %v, want %v", k.again.wait, holderAtMost)
	}
	text := said.String()
	for _, want := range []string{"the holder of the mount has ended", "no holder of it lives"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("want %q once in the log:\n%s", want, text)
		}
	}
	k.say(k.again.wait, k.again.after(2*holderAtMost))
	if strings.Count(said.String(), "another is started") != 2 {
		t.Errorf("the end of one that has lived is not said:\n%s", said.String())
	}
}
