package config

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/BurntSushi/toml"
)

// Default is the settings in force where no file says otherwise: those of the
// Keys table, with paths of their own for a plain user. A path is empty where
// the environment gives it no place; such a path must be set by other means.
func Default() Config { return builtin(os.Geteuid(), os.Getenv) }

// Path is the configuration file read when none is named; empty when a plain
// user has neither $XDG_CONFIG_HOME nor $HOME.
func Path() string { return configPath(os.Geteuid(), os.Getenv) }

func builtin(uid int, getenv func(string) string) Config {
	var c Config
	for _, k := range Keys {
		if k.Default == "" {
			continue
		}
		var doc struct{ Value any }
		if _, err := toml.Decode("value = "+k.Default, &doc); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", k.Name, err))
		}
		if k.set(target{&c, &c.Defaults}, doc.Value) != nil {
			panic(fmt.Sprintf("config: %s refuses its default", k.Name))
		}
	}
	c.Defaults.ModeSet = false
	if uid != 0 {
		runtime := baseDir(getenv, "XDG_RUNTIME_DIR", "")
		c.Mount = below(runtime, "logfs")
		c.Store = below(baseDir(getenv, "XDG_STATE_HOME", ".local/state"), "logfs")
		c.Socket = below(runtime, "logfs.control")
	}
	return c
}

func configPath(uid int, getenv func(string) string) string {
	if uid == 0 {
		return "/etc/logfs/logfs.toml"
	}
	return below(baseDir(getenv, "XDG_CONFIG_HOME", ".config"), "logfs/logfs.toml")
}

// baseDir is a directory of the XDG base directory specification, which says
// that a relative path in the environment counts as unset.
func baseDir(getenv func(string) string, name, underHome string) string {
	if dir := getenv(name); filepath.IsAbs(dir) {
		return dir
	}
	if home := getenv("HOME"); underHome != "" && filepath.IsAbs(home) {
		return filepath.Join(home, underHome)
	}
	return ""
}

func below(dir, name string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}
