package config_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"logfs/cmd/logfs/internal/config"
)

// temporary writes a file into a directory of its own.
func temporary(name, text string) (path string, remove func()) {
	dir, err := os.MkdirTemp("", "config")
	if err != nil {
		log.Fatal(err)
	}
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		log.Fatal(err)
	}
	return path, func() { os.RemoveAll(dir) }
}

func ExampleLoad() {
	path, remove := temporary("logfs.toml", `
[defaults]
keep = 20

[service.web]
command = "bundle exec rails server"
env = { PORT = "3000" }

[service.worker]
size = "10MB"
`)
	defer remove()
	c, err := config.Load(path, false)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range c.Services {
		fmt.Println(s.Name, s.Size, s.Keep, s.Env, len(s.Command))
	}
	// Output:
	// web 1048576 20 [PORT=3000] 3
	// worker 10000000 20 [] 0
}

func ExampleLoad_mistake() {
	path, remove := temporary("logfs.toml", "[service.web]\nring-lines = 500\nkeep = \"ten\"\n")
	defer remove()
	_, err := config.Load(path, false)
	fmt.Println(strings.TrimPrefix(err.Error(), filepath.Dir(path)+"/"))
	// Output:
	// logfs.toml:3: service.web.keep: cannot use "ten": want a whole number from 1 to 100000
}

func ExampleLoadProcfile() {
	path, remove := temporary("Procfile", "# two services\nweb: rails server\nclock: ruby clock.rb\n")
	defer remove()
	c, err := config.LoadProcfile(path)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range c.Services {
		fmt.Printf("%s %q restart %s\n", s.Name, s.Command, s.Restart)
	}
	// Output:
	// clock ["/bin/sh" "-c" "ruby clock.rb"] restart never
	// web ["/bin/sh" "-c" "rails server"] restart never
}

func ExampleCheckName() {
	fmt.Println(config.CheckName("web-1.example.org"))
	fmt.Println(config.CheckName("status"))
	// Output:
	// <nil>
	// cannot use name "status": it is reserved; want a letter or digit, then up to 99 of letters, digits and "._@:-"
}
