package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wrongCommand finds a word where a command's name belongs that is none. Cobra would read on, and complain about the
// flags of the command that was meant.
func wrongCommand(root *cobra.Command, args []string) (*cobra.Command, error) {
	if len(args) > 0 && (strings.HasPrefix(args[0], "__complete") || args[0] == "help") {
		return nil, nil
	}
	cmd, rest, err := root.Find(args)
	if err != nil || !cmd.HasSubCommands() {
		return nil, nil //nolint:nilerr // cobra says it once more
	}
	for i := 0; i < len(rest); i++ {
		switch word := rest[i]; {
		case word == "-o" || word == "--output":
			i++ // its value
		case word == "--":
			return nil, nil
		case strings.HasPrefix(word, "-"):
		default:
			return cmd, unknownCommand(cmd, word)
		}
	}
	return nil, nil
}

func commandNames(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" && sub.Name() != "completion" {
			names = append(names, sub.Name())
		}
	}
	return names
}

func unknownCommand(cmd *cobra.Command, word string) error {
	if near := Nearest(word, commandNames(cmd)); near != "" {
		return fmt.Errorf("unknown command %q: did you mean %s %s?", word, cmd.CommandPath(), near)
	}
	if strings.ContainsAny(word, "=:") || strings.ContainsRune("—–−", []rune(word)[0]) {
		return fmt.Errorf("unknown command %q: a flag begins with two hyphens and comes after the command", word)
	}
	return fmt.Errorf("unknown command %q: the commands are %s", word, strings.Join(commandNames(cmd), ", "))
}

// The errors that cobra makes without a type.
var (
	requiredFlags = regexp.MustCompile(`^required flag\(s\) (.+) not set$`)
	exactArgs     = regexp.MustCompile(`^accepts \d+ arg\(s\), received (\d+)$`)
	leastArgs     = regexp.MustCompile(`^requires at least \d+ arg\(s\), only received \d+$`)
	extraArg      = regexp.MustCompile(`^unknown command ("(?:[^"\\]|\\.)*") for `)
	together      = regexp.MustCompile(`^if any flags in the group \[(.+)\] are set none of the others can be`)
	oneRequired   = regexp.MustCompile(`^at least one of the flags in the group \[(.+)\] is required$`)
)

// usageError says in our words what cobra and pflag found: the value, and what to type.
func usageError(cmd *cobra.Command, args []string, err error) error {
	var unknown *pflag.NotExistError
	var valueless *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	case errors.As(err, &valueless):
		return fmt.Errorf("--%s has no value: %s", valueless.GetFlag().Name, flagUsage(valueless.GetFlag()))
	case errors.As(err, &invalid):
		return invalidValue(invalid)
	case errors.As(err, &syntax):
		return fmt.Errorf("%s is no flag: write --NAME VALUE or --NAME=VALUE", syntax.GetSpecifiedFlag())
	}
	text := err.Error()
	if found := requiredFlags.FindStringSubmatch(text); found != nil {
		missing := strings.Split(strings.ReplaceAll(found[1], `"`, ""), ", ")
		return fmt.Errorf("%s: %s", areMissing(missing), usageLine(cmd))
	}
	if found := extraArg.FindStringSubmatch(text); found != nil {
		return extraWord(cmd, found[1], args)
	}
	if found := exactArgs.FindStringSubmatch(text); found != nil && found[1] != "0" || leastArgs.MatchString(text) ||
		found != nil {
		return wrongCount(cmd, found)
	}
	if found := together.FindStringSubmatch(text); found != nil {
		return fmt.Errorf("--%s exclude each other: give one of them", strings.ReplaceAll(found[1], " ", " and --"))
	}
	if found := oneRequired.FindStringSubmatch(text); found != nil {
		return fmt.Errorf("--%s is missing: %s", strings.ReplaceAll(found[1], " ", " or --"), usageLine(cmd))
	}
	return err
}

// usageLine is how the command is used: "enqueue void --key KEY --payment ID".
func usageLine(cmd *cobra.Command) string {
	use := cmd.Use
	if parent := cmd.Parent(); parent != nil {
		use = parent.CommandPath() + " " + use
	}
	return use
}

func areMissing(flags []string) string {
	for i := range flags {
		flags[i] = "--" + flags[i]
	}
	if len(flags) == 1 {
		return flags[0] + " is missing"
	}
	return strings.Join(flags[:len(flags)-1], ", ") + " and " + flags[len(flags)-1] + " are missing"
}

// wrongCount is of a command that takes words.
func wrongCount(cmd *cobra.Command, found []string) error {
	_, words, _ := strings.Cut(cmd.Use, " ")
	if found != nil && found[1] == "1" { // of two
		return fmt.Errorf("%s is missing: %s", strings.Fields(words + " word value")[1], usageLine(cmd))
	}
	if found != nil && found[1] != "0" {
		return fmt.Errorf("%s words are given where one belongs: %s; quote a value with blanks", found[1], usageLine(cmd))
	}
	return fmt.Errorf("%s is missing: %s", strings.TrimSuffix(strings.Fields(words + " value")[0], "..."), usageLine(cmd))
}

// extraWord is a word where a command takes flags only. quoted is as Go quotes it.
func extraWord(cmd *cobra.Command, quoted string, args []string) error {
	word := strings.Trim(quoted, `"`)
	before := ""
	if i := slices.Index(args, word); i > 1 && strings.HasPrefix(args[i-2], "--") {
		before = args[i-2]
	}
	switch {
	case cmd.Flags().Lookup(strings.TrimLeft(word, "—–−-")) != nil:
		return fmt.Errorf("%s is no flag: write --%s, with two hyphens", quoted, strings.TrimLeft(word, "—–−-"))
	case before != "":
		return fmt.Errorf("the word %s follows the value of %s: quote a value with blanks, give each other value its "+
			"flag; %s", quoted, before, usageLine(cmd))
	}
	return fmt.Errorf("the word %s belongs to no flag: %s", quoted, usageLine(cmd))
}

func flagNames(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

func unknownFlag(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		name, _, _ := strings.Cut(short, "=")
		if cmd.Flags().Lookup(name) != nil {
			return fmt.Errorf("-%s is no flag: write --%s, with two hyphens", name, name)
		}
		return fmt.Errorf("unknown flag -%s: the flags of %s are --%s", short, cmd.CommandPath(),
			strings.Join(flagNames(cmd), ", --"))
	}
	name := unknown.GetSpecifiedName()
	if near := Nearest(name, flagNames(cmd)); near != "" {
		return fmt.Errorf("unknown flag --%s: did you mean --%s?", name, near)
	}
	return fmt.Errorf("unknown flag --%s: the flags of %s are --%s", name, cmd.CommandPath(),
		strings.Join(flagNames(cmd), ", --"))
}

// flagUsage is what a value of the flag looks like.
func flagUsage(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "duration":
		return "a duration like 10s, 15m or 24h"
	case "int", "int64":
		return "a whole number"
	case "bool":
		return "true or false"
	}
	return fmt.Sprintf("write --%s %s", f.Name, strings.ToUpper(f.Name))
}

func invalidValue(invalid *pflag.InvalidValueError) error {
	flag, says := invalid.GetFlag(), invalid.Unwrap().Error()
	switch flag.Value.Type() {
	case "int", "int64":
		if says = "a whole number"; strings.Contains(invalid.Unwrap().Error(), "out of range") {
			says = "out of range, a whole number up to 9223372036854775807"
		}
	case "duration":
		says = "a duration with its unit, like 10s, 15m or 24h"
	case "bool":
		says = "true or false"
	}
	return fmt.Errorf("--%s is %q: %s", flag.Name, invalid.GetValue(), strings.TrimPrefix(says, "it is "))
}
