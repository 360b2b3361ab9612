package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/outbox"
)

// program is a small one, of the same make as ours. It answers with err.
func program(err error) (*cobra.Command, *cli.Output) {
	root := &cobra.Command{Use: "tool", Short: "A tool"}
	output := cli.AddOutput(root)
	do := &cobra.Command{Use: "do", Short: "Do it", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		if printErr := output.Print(cmd.OutOrStdout(), map[string]int{"n": 1}, "n is 1"); printErr != nil {
			return printErr
		}
		return err
	}}
	do.Flags().String("key", "", "a key")
	do.Flags().Int("count", 0, "a number")
	cli.Require(do, "key")
	group := &cobra.Command{Use: "group", Short: "A group"}
	group.AddCommand(&cobra.Command{Use: "one", Args: cobra.MinimumNArgs(1), RunE: func(*cobra.Command,
		[]string) error {
		return err
	}})
	root.AddCommand(do, group)
	return root, output
}

func execute(t *testing.T, err error, args ...string) (code int, out, errs string) {
	t.Helper()
	root, _ := program(err)
	var stdout, stderr bytes.Buffer
	code = cli.Execute(t.Context(), root, args, cli.Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	return code, stdout.String(), stderr.String()
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"do":                                     `--key is missing: tool do`,
		"do --key":                               "--key has no value: write --key KEY",
		"do --key k --nothing":                   "unknown flag --nothing: the flags of tool",
		"do --key k -z":                          "unknown flag -z: the flags of tool do are --",
		"do --key k --count many":                `--count is "many": a whole number`,
		"do --key k --output xml":                `"text" or "json"`,
		"do --key k extra":                       `the word "extra" follows the value of --key`,
		"--output xml do":                        `"text" or "json"`,
		"dance":                                  `unknown command "dance": the commands are `,
		"group dance":                            `unknown command "dance": the commands are `,
		"group one":                              "is missing: tool group one",
		"group":                                  "a command is needed",
		"":                                       "a command is needed",
		"don --key k":                            `unknown command "don": did you mean tool do?`,
		"do --kye k":                             "unknown flag --kye: did you mean --key?",
		"do -key k":                              "-key is no flag: write --key, with two hyphens",
		"do —key k":                              "is no flag: write --key, with two hyphens",
		"do --key k --count 9223372036854775808": "out of range",
		"group one --=k":                         "--=k is no flag: write --NAME VALUE",
		"key=k":                                  "a flag begins with two hyphens",
		"--nothing":                              "unknown flag --nothing: the flags of tool",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			code, _, errs := execute(t, nil, strings.Fields(line)...)
			if code != cli.ExitUsage {
				t.Errorf("exit %d, want %d", code, cli.ExitUsage)
			}
			told, hint, _ := strings.Cut(errs, "\n")
			if !strings.HasPrefix(told, "tool: ") || !strings.Contains(told, says) {
				t.Errorf("it says %q, without %q", told, says)
			}
			if !strings.HasPrefix(hint, "Try 'tool") || strings.Count(hint, "\n") != 1 {
				t.Errorf("after its one line it says %q", hint)
			}
		})
	}
}

// With --output json an error is JSON, too, wherever that flag stands, and even if nothing else can be read.
func TestErrorsAsJSON(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"--output json don --key": `{"error":{"code":"usage","message":"unknown command \"don\"","hint":"did you mean tool do?"}}`,
		"do -o json":              `{"error":{"code":"usage","message":"--key is missing","hint":"tool do"}}`,
		"do --key k -ojson -z": `{"error":{"code":"usage","message":"unknown flag -z",` +
			`"hint":"the flags of tool do are --count, --help, --key, --output"}}`,
		"do --key k --output=json": `{"error":{"code":"data","message":"line 7 is bad","hint":"write a good one"}}`,
	} {
		_, _, errs := execute(t, cli.BadData("line 7 is bad: write a good one"), strings.Fields(line)...)
		if errs != want+"\n" {
			t.Errorf("%s: %s, want %s", line, errs, want)
		}
	}
	if _, _, errs := execute(t, cli.BadData("bad"), "do", "--key", "k", "--", "-o", "json"); strings.HasPrefix(errs, "{") {
		t.Errorf("what comes after -- is no flag: %s", errs)
	}
}

func TestErrorsOfACommand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		code int
		says string
	}{
		{nil, cli.ExitOK, ""},
		{cli.Usage("--item %q is none", "x"), cli.ExitUsage, "tool: --item \"x\" is none\n"},
		{cli.BadData("line 7 is bad"), cli.ExitData, "tool: line 7 is bad\n"},
		{&cli.Error{Code: cli.ExitRefused}, cli.ExitRefused, ""}, // it has been said
		{errors.New("broken"), cli.ExitViolation, "tool: broken\n"},
		{outbox.ErrCommitUnknown, cli.ExitUnknown,
			"tool: the reply to COMMIT was lost: run the same command again; what was done is not done twice\n"},
	} {
		code, out, errs := execute(t, test.err, "do", "--key", "k")
		if code != test.code || errs != test.says || out != "n is 1\n" {
			t.Errorf("%v: exit %d, %q, %q", test.err, code, out, errs)
		}
	}
}

func TestHelpAndCompletion(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"--help", "do --help", "group --help", "help do", "completion bash", "completion zsh"} {
		code, out, errs := execute(t, nil, strings.Fields(line)...)
		if code != cli.ExitOK || out == "" || errs != "" {
			t.Errorf("%s: exit %d, %d bytes, %q", line, code, len(out), errs)
		}
	}
	if _, out, _ := execute(t, nil, "__complete", "do", "--output", ""); !strings.Contains(out, "json") ||
		!strings.Contains(out, "text") {
		t.Errorf("the completion of --output is %q", out)
	}
}

func TestOutputIsDataOnly(t *testing.T) {
	t.Parallel()
	if _, out, _ := execute(t, nil, "do", "--key", "k", "-o", "json"); out != "{\"n\":1}\n" {
		t.Errorf("as JSON it is %q", out)
	}
	// no data, no byte on stdout: another program reads it
	for _, line := range []string{"dance", "do", "group", "do --key k extra"} {
		if _, out, _ := execute(t, nil, strings.Fields(line)...); out != "" {
			t.Errorf("the usage error of %q writes to stdout: %q", line, out)
		}
	}
}

func TestPrintOutcome(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	pending := outbox.Outcome{Key: "k", Kind: "payment.transfer", Status: outbox.Pending, JobID: 7, RequestedAt: at}
	settled := pending
	settled.Status, settled.Code, settled.Detail, settled.Attempts, settled.SettledAt = outbox.Rejected,
		"insufficient_funds", json.RawMessage(`{"asked":5}`), 1, &at
	for _, test := range []struct {
		output    cli.Output
		of        outbox.Outcome
		duplicate bool
		want      string
	}{
		{"text", pending, false, "k  payment.transfer  pending\n"},
		{"text", settled, true, "k  payment.transfer  rejected  insufficient_funds  {\"asked\":5}  (duplicate)\n"},
		{"json", pending, true,
			`{"key":"k","kind":"payment.transfer","status":"pending","code":null,"detail":null,"attempts":0,"job_id":7,"requested_at":"2026-03-01T12:00:00Z","settled_at":null,"duplicate":true}` + "\n"},
		{"json", settled, false,
			`{"key":"k","kind":"payment.transfer","status":"rejected","code":"insufficient_funds","detail":{"asked":5},"attempts":1,"job_id":7,"requested_at":"2026-03-01T12:00:00Z","settled_at":"2026-03-01T12:00:00Z","duplicate":false}` + "\n"},
	} {
		var out bytes.Buffer
		if err := test.output.PrintOutcome(&out, test.of, test.duplicate); err != nil || out.String() != test.want {
			t.Errorf("%s: %q (%v), want %q", test.output, out.String(), err, test.want)
		}
	}
}

func TestExecutePassesTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := &cobra.Command{Use: "tool"}
	root.AddCommand(&cobra.Command{Use: "do", RunE: func(cmd *cobra.Command,
		_ []string) error {
		return cmd.Context().Err()
	}})
	var stderr bytes.Buffer
	if code := cli.Execute(ctx, root, []string{"do"}, cli.Streams{Err: &stderr}); code != cli.ExitUnknown {
		t.Errorf("a command that was interrupted exits with %d: %s", code, stderr.String())
	}
}

func TestProgressIsForTerminals(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	progress := cli.NewProgress(&stderr, 10)
	var in bytes.Buffer
	in.WriteString("0123456789")
	var got bytes.Buffer
	if _, err := got.ReadFrom(progress.Reader(&in)); err != nil || got.String() != "0123456789" {
		t.Errorf("read %q, %v", got.String(), err)
	}
	progress.Rows(1)
	if progress.Finish(); stderr.Len() != 0 {
		t.Errorf("on a stream that is no terminal there is %q", stderr.String())
	}
}
