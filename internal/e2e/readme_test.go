package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/testdb"
)

var (
	sqlBlock   = regexp.MustCompile("(?s)```sql\n(.*?)```")
	shellBlock = regexp.MustCompile(`(?s)From the shell:\n\n(.*?)\n\n`)
)

// The README's SQL and its shell commands, in the order in which a reader comes to them, beside a worker that runs.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	sql, shell := sqlBlock.FindSubmatch(readme), shellBlock.FindSubmatch(readme)
	if sql == nil || shell == nil {
		t.Fatal("the README has no SQL, or no commands")
	}
	url := testdb.New(t)
	worker := start(t, on(url), "worker", "run")

	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.PgConn().Exec(t.Context(), string(sql[1])).ReadAll(); err != nil {
		t.Errorf("the SQL: %v", err)
	}
	eventually(t, "the worker to take its lane", func() bool { return strings.Contains(worker.errs.String(), "lane taken") })

	commands := 0
	for line := range strings.Lines(string(shell[1])) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		for i, word := range words {
			if strings.HasPrefix(word, "docs/") {
				words[i] = filepath.Join("..", "..", word)
			}
		}
		start(t, on(url), words[0], words[1:]...).exits(t, 0)
		commands++
	}
	if commands < 6 {
		t.Errorf("%d commands were run", commands)
	}
	worker.signal(t, syscall.SIGTERM)
	worker.exits(t, 0)
}
