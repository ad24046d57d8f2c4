// Makes of a module's folder what the Go proxy would serve: PROXY/MODULE/@v/{list,VERSION.info,VERSION.mod,VERSION.zip}.
package main

import (
	"log"
	"os"
	"path/filepath"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: pack FOLDER MODULE VERSION PROXY")
	}
	folder, version, proxy := os.Args[1], module.Version{Path: os.Args[2], Version: os.Args[3]}, os.Args[4]
	path, err := module.EscapePath(version.Path)
	check(err)
	place := filepath.Join(proxy, path, "@v")
	check(os.MkdirAll(place, 0o755))
	write := func(name string, text []byte) { check(os.WriteFile(filepath.Join(place, name), text, 0o644)) }
	mod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	check(err)
	write("list", []byte(version.Version+"\n"))
	write(version.Version+".mod", mod)
	write(version.Version+".info", []byte(`{"Version": "`+version.Version+`", "Time": "2026-01-01T00:00:00Z"}`+"\n"))
	file, err := os.Create(filepath.Join(place, version.Version+".zip"))
	check(err)
	check(zip.CreateFromDir(file, version, folder)) // leaves out the modules inside
	check(file.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal("pack: ", err)
	}
}
