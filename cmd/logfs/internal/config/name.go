package config

import (
	"fmt"
	"strings"
)

// MaxName is the length of the longest service name.
const MaxName = 100

// CheckName reports why name cannot be the name of a service. A name that
// passes is also safe as one component of a path, in TOML when quoted, and
// before the colon of a Procfile unless it holds a colon itself.
func CheckName(name string) error {
	const accepted = `want a letter or digit, then up to 99 of letters, digits and "._@:-"`
	if name == "all" || name == "status" {
		return fmt.Errorf("cannot use name %q: it is reserved; %s", name, accepted)
	}
	ok := name != "" && len(name) <= MaxName && alphanumeric(name[0])
	for i := 1; ok && i < len(name); i++ {
		ok = alphanumeric(name[i]) || strings.IndexByte("._@:-", name[i]) >= 0
	}
	if !ok {
		return fmt.Errorf("cannot use name %s: %s", quoted(name), accepted)
	}
	return nil
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
