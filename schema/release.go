package schema

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// The number and the digest of the set of functions in functions/. Whoever changes a file there raises the number,
// which tells an older database from a newer one, and notes the digest that TestFunctionsVersion prints.
const (
	functionsVersion = 1
	functionsDigest  = "bf310cc7f4c51d03b46c1a8f4d442da9307f12669288b2f4d56512b3f7ecab27"
)

//go:embed migrations/*.sql functions/*.sql
var files embed.FS

//go:embed bootstrap.sql
var bootstrap string

//go:embed versions.sql
var versionTables string

// release is what a binary puts into a database, beside River's migrations.
type release struct {
	migrations []migration
	functions  functionSet
}

// migration is a numbered change of tables, types, triggers and their rights.
type migration struct {
	number   int
	name     string // 0001_requests
	up, down string
}

// functionSet holds all functions of the schema, each once.
type functionSet struct {
	version    int
	digest     string
	triggers   string   // the trigger functions: put in place before the migrations
	rest       string   // the others: put in place after them
	signatures []string // of the others, as Postgres would print them (see signatureSQL)
}

// current is this binary's release.
func current() (release, error) {
	migrations, err := readMigrations(files)
	if err != nil {
		return release{}, err
	}
	functions, err := readFunctions(files, functionsVersion)
	return release{migrations: migrations, functions: functions}, err
}

func readMigrations(from fs.FS) ([]migration, error) {
	ups, err := fs.Glob(from, "migrations/*.up.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, path := range ups {
		m := migration{name: strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".up.sql")}
		number, _, _ := strings.Cut(m.name, "_")
		if m.number, err = strconv.Atoi(number); err != nil || m.number != i+1 {
			return nil, fmt.Errorf("%s: it is migration %d by its place, and has another number", path, i+1)
		}
		if m.up, err = readText(from, path); err != nil {
			return nil, err
		}
		if m.down, err = readText(from, "migrations/"+m.name+".down.sql"); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

const (
	triggersFile = "functions/triggers.sql" // runs first: the migrations' triggers call its functions
	dispatchFile = "functions/dispatch.sql" // runs last: it looks for the functions of all kinds
)

func readFunctions(from fs.FS, version int) (functionSet, error) {
	paths, err := fs.Glob(from, "functions/*.sql")
	if err != nil {
		return functionSet{}, err
	}
	set := functionSet{version: version}
	hash := sha256.New()
	var rest, last string
	for _, path := range paths {
		text, err := readText(from, path)
		if err != nil {
			return functionSet{}, err
		}
		fmt.Fprintf(hash, "%s\n%s", path, text)
		switch path {
		case triggersFile:
			set.triggers = text
		case dispatchFile:
			last = text
		default:
			rest += text
		}
	}
	set.rest = rest + last
	set.digest = hex.EncodeToString(hash.Sum(nil))
	set.signatures = signatures(set.rest)
	return set, nil
}

func readText(from fs.FS, path string) (string, error) {
	text, err := fs.ReadFile(from, path)
	return string(text), err
}

var (
	header  = regexp.MustCompile(`(?s)\nCREATE OR REPLACE FUNCTION lastseat\.(\w+)\s*\((.*?)\)\nRETURNS (.*?)\nLANGUAGE `)
	space   = regexp.MustCompile(`\s+`)
	bracket = regexp.MustCompile(`\s*([()])\s*`)
)

// signatures lists the functions that a text defines: name, arguments with their defaults, result.
func signatures(text string) []string {
	var all []string
	for _, match := range header.FindAllStringSubmatch(text, -1) {
		arguments, result := space.ReplaceAllString(match[2], " "), space.ReplaceAllString(match[3], " ")
		if strings.HasPrefix(result, "TABLE") {
			result = bracket.ReplaceAllString(result, "$1")
		}
		all = append(all, fmt.Sprintf("%s(%s) -> %s", match[1], strings.TrimSpace(arguments), result))
	}
	return all
}
