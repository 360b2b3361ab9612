package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lastseat/lastseat/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m, nil)) }

// TestShort runs the whole program. That everybody's money is right is checked by the program itself.
func TestShort(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	svg := filepath.Join(t.TempDir(), "plot.svg")
	if err := run(t.Context(), []string{"-short", "-plot", svg}, testdb.ServerURL(t), &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	t.Log("\n" + stdout.String())
	for _, c := range contestants {
		if rows := strings.Count(stdout.String(), " | "+c.name+" | "); rows != 2 {
			t.Errorf("%s has %d rows in the tables, want 2", c.name, rows)
		}
	}
	for _, word := range []string{"fsync", "cores", "%"} {
		if !strings.Contains(stdout.String(), word) {
			t.Errorf("nothing in it of %s", word)
		}
	}
	file, err := os.Open(svg)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for decoder := xml.NewDecoder(file); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
	left := testdb.Scalar[int](t, testdb.Pool(t, testdb.ServerURL(t)), `SELECT count(*) FROM pg_database
		WHERE datname LIKE 'lastseat\_contention\_%'`)
	if left > 0 && os.Getenv("DATABASE_URL") == "" { // elsewhere they may be somebody else's
		t.Errorf("%d databases were left behind", left)
	}
}

// TestNoNumberForAMistake: naive code, which loses updates, has no rate.
func TestNoNumberForAMistake(t *testing.T) {
	t.Parallel()
	server, err := openServer(t.Context(), testdb.ServerURL(t), 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	o := options{table: 10, duration: 100 * time.Millisecond}
	for name, test := range map[string]struct {
		withdraw func(context.Context, *client, withdrawal) (bool, error)
		says     string
	}{
		"idle": {func(context.Context, *client, withdrawal) (bool, error) {
			time.Sleep(time.Millisecond)
			return true, nil
		}, "withdrawals applied: 0 instead of"},
		"takes a cent": {func(ctx context.Context, c *client, _ withdrawal) (bool, error) {
			_, err := c.conn.Exec(ctx, `UPDATE accounts SET balance = balance - 1 WHERE id = 1 AND balance > 0`)
			return false, err
		}, "the sum of all accounts"},
	} {
		_, err := measure(t.Context(), server, o, contestant{name: name, withdraw: test.withdraw}, cell{name, 1, 2})
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want: %s", name, err, test.says)
		}
	}
}

// TestPictureIsTheTables: the picture in the repository is that of the tables in docs/contention.md.
func TestPictureIsTheTables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../" + reportFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := svgOf(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile("../../" + plotFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the tables say: run make plots (%v)", plotFile, err)
	}
	for _, said := range []string{"1 client<", "64 clients<", "p99 in ms, 16 clients", "10,000", "lane, asking"} {
		if !bytes.Contains(want, []byte(said)) {
			t.Errorf("nothing in it of %s", said)
		}
	}
}

func TestNothingToDraw(t *testing.T) {
	t.Parallel()
	for document, says := range map[string]string{
		"# No table": "without a table",
		"## 4 clients\n\n" + tableHead + "\n| --: | --- |\n| 1 | row lock |\n":                    `a row of 2 columns`,
		"## 4 clients\n\n" + tableHead + "\n| --: | --- |\n| 1 | row lock | many | 0 | 1 | 1 |\n": `"many"`,
	} {
		if _, err := svgOf(document); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want: %s", err, says)
		}
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1_234_567.4: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%v) = %s, want %s", n, got, want)
		}
	}
}
