package main

import (
	"math"
	"slices"
)

// A spread is what the rounds of a measurement came to.
type spread struct{ median, least, most float64 }

// spreadOf returns false if there are no values.
func spreadOf(values []float64) (s spread, ok bool) {
	if len(values) == 0 {
		return s, false
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return spread{median: (values[(n-1)/2] + values[n/2]) / 2, least: values[0], most: values[n-1]}, true
}

// percentile is the smallest of the values that p of a hundred do not exceed. The
// values are sorted, and there is one.
func percentile(sorted []float64, p float64) float64 {
	const inexact = 1e-9 // as 99.9 is
	rank := int(math.Ceil(p*float64(len(sorted))/100 - inexact))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// ratios divides the values of two contestants, round by round. A round in which
// one of them has nothing to show has no ratio.
func ratios(a, b []float64) (all []float64) {
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			all = append(all, a[i]/b[i])
		}
	}
	return all
}
