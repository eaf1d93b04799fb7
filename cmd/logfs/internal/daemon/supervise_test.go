package daemon

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"logfs/cmd/logfs/internal/config"
)

func TestBackoff(t *testing.T) {
	const s = time.Second
	tests := []struct {
		name string
		ran  []time.Duration
		want []time.Duration
	}{
		{"doubles up to the maximum", []time.Duration{0, 0, 0, 0, 0}, []time.Duration{1 * s, 2 * s, 4 * s, 5 * s, 5 * s}},
		{"a run of the maximum changes nothing", []time.Duration{0, 0, 5 * s}, []time.Duration{1 * s, 2 * s, 4 * s}},
		{"a longer one begins anew", []time.Duration{0, 0, 0, 6 * s, 0}, []time.Duration{1 * s, 2 * s, 4 * s, 1 * s, 2 * s}},
	}
	for _, tt := range tests {
		b := backoff{first: s, max: 5 * s}
		var got []time.Duration
		for _, ran := range tt.ran {
			got = append(got, b.after(ran))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: waits %v, want %v", tt.name, got, tt.want)
		}
	}
}

// script is a command that lasts and fails as written.
type script []struct {
	lasts time.Duration
	fails bool
}

// play supervises the script until it is at its end and returns when the runs
// began. The last run of a script is only begun.
func play(policy config.Restart, s script) (starts []time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	v := supervisor{
		restart: policy,
		backoff: backoff{first: time.Second, max: 10 * time.Second},
		waiting: func(time.Duration) {},
	}
	v.run = func(context.Context) bool {
		act := s[len(starts)]
		starts = append(starts, time.Since(began))
		if len(starts) == len(s) {
			cancel()
		}
		time.Sleep(act.lasts)
		return act.fails
	}
	v.loop(ctx)
	return starts
}

func TestRestartPolicies(t *testing.T) {
	const s = time.Second
	runs := script{{0, true}, {0, true}, {3 * s, false}, {20 * s, true}, {0, true}}
	tests := []struct {
		policy config.Restart
		want   []time.Duration
	}{
		{config.Always, []time.Duration{0, 1 * s, 3 * s, 10 * s, 31 * s}},
		{config.OnFailure, []time.Duration{0, 1 * s, 3 * s}},
		{config.Never, []time.Duration{0}},
	}
	for _, tt := range tests {
		t.Run(string(tt.policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := play(tt.policy, runs); !slices.Equal(got, tt.want) {
					t.Errorf("runs begin at %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestEndInterruptsBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		waits := make(chan time.Duration, 1)
		v := supervisor{
			restart: config.Always,
			backoff: backoff{first: time.Hour, max: time.Hour},
			run:     func(context.Context) bool { return true },
			waiting: func(d time.Duration) { waits <- d },
		}
		ended := make(chan struct{})
		began := time.Now()
		go func() { v.loop(ctx); close(ended) }()
		<-waits
		synctest.Wait()
		cancel()
		<-ended
		if d := time.Since(began); d != 0 {
			t.Errorf("ended after %v, want at once", d)
		}
	})
}
