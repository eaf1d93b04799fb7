package main

import (
	"slices"
	"testing"
)

func TestSpreadOf(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
		ok     bool
	}{
		{nil, spread{}, false},
		{[]float64{4}, spread{4, 4, 4}, true},
		{[]float64{9, 1}, spread{5, 1, 9}, true},
		{[]float64{5, 1, 9}, spread{5, 1, 9}, true},
		{[]float64{7, 1, 3, 5}, spread{4, 1, 7}, true},
	} {
		given := slices.Clone(c.values)
		if got, ok := spreadOf(c.values); got != c.want || ok != c.ok {
			t.Errorf("spreadOf(%v) = %v, %v, want %v, %v", c.values, got, ok, c.want, c.ok)
		}
		if !slices.Equal(given, c.values) {
			t.Errorf("spreadOf has changed %v to %v: rounds are compared by their places", given, c.values)
		}
	}
}

func TestPercentile(t *testing.T) {
	thousand := make([]float64, 1000)
	for i := range thousand {
		thousand[i] = float64(i + 1)
	}
	for _, c := range []struct {
		values  []float64
		p, want float64
	}{
		{[]float64{7}, 0, 7}, {[]float64{7}, 99.9, 7},
		{[]float64{1, 2, 3, 4}, 50, 2}, {[]float64{1, 2, 3, 4}, 51, 3}, {[]float64{1, 2, 3, 4}, 100, 4},
		{thousand, 50, 500}, {thousand, 99, 990}, {thousand, 99.9, 999}, {thousand[:100], 99.9, 100},
	} {
		if got := percentile(c.values, c.p); got != c.want {
			t.Errorf("percentile %v of %d values is %v, want %v", c.p, len(c.values), got, c.want)
		}
	}
}

func TestRatios(t *testing.T) {
	got := ratios([]float64{1, 6, 5, 8}, []float64{2, 3, 0})
	if want := []float64{0.5, 2}; !slices.Equal(got, want) {
		t.Errorf("ratios %v, want %v", got, want)
	}
}

// What a contestant has in a round is compared with what the others have in it,
// also if it has nothing in the round before.
func TestValuesKeepTheirRounds(t *testing.T) {
	b := &bench{}
	for _, s := range []sample{{perGiB: 1}, {speed: 5}, {perGiB: 3}} {
		b.note("a", "logfs", s)
	}
	if got, want := b.values("a", "logfs", perGiB), []float64{1, 0, 3}; !slices.Equal(got, want) {
		t.Errorf("values %v, want %v", got, want)
	}
	if got := b.values("a", "logfs", p99); got != nil {
		t.Errorf("values of what was not measured: %v", got)
	}
}
