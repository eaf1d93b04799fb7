//go:build race

package rotate

// raced says that the race detector makes everything several times as slow.
const raced = true
