//go:build !race

package rotate

const raced = false
