// Package exit names every exit status of logfs once, and carries one with an
// error from the place that knows it to main, the only place that exits.
//
// It has no state and prints nothing.
package exit
