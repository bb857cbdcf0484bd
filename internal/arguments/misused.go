package arguments

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Misused makes an Error with a hint, which is empty when there is nothing helpful to say.
func Misused(text, forward string) error { return Error{hint.New(errors.New(text), forward)} }

// FlagError words the errors of pflag for people.
func FlagError(c *cobra.Command, err error) error {
	message, forward := err.Error(), "try "+c.CommandPath()+" --help"
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		text, more := WordInvalid(invalid)
		message, forward = "--"+text, cmp.Or(more, forward)
	}
	return Misused(message, forward)
}

// WordInvalid tells what is wrong with the value of an option, and the way forward.
func WordInvalid(invalid *pflag.InvalidValueError) (message, forward string) {
	needs := map[string]string{"int": "a number", "bool": "true or false", "string": "a value",
		"duration": "a time such as 30m or 1h", "rate": "bytes a second such as 500K, 10M or 1.5G"}[invalid.GetFlag().Value.Type()]
	message = fmt.Sprintf("%s needs %s, not %q", invalid.GetFlag().Name, needs, invalid.GetValue())
	if needs == "" {
		message = fmt.Sprintf("%s: %v", invalid.GetFlag().Name, invalid.Unwrap())
	}
	return message, cmp.Or(policyHint(invalid.GetFlag(), invalid.GetValue()), hint.Of(invalid.Unwrap()))
}

// fullText is the value of an option that cannot be empty: a variable that is unset in a script is not the default.
type fullText struct{ pflag.Value }

func (t fullText) Set(text string) error {
	if text == "" {
		return errors.New("it is empty")
	}
	return t.Value.Set(text)
}

// RefuseEmpty lets options of text have no empty value, but for those of which it is the default.
func RefuseEmpty(f *pflag.FlagSet) {
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Value.Type() == "string" && !slices.Contains([]string{"snapshot-folder", "snapshot-prefix", "rsync-options"}, flag.Name) {
			flag.Value = fullText{flag.Value}
		}
	})
}

// policyHint is the way forward for what is no policy, or no number.
func policyHint(flag *pflag.Flag, text string) string {
	if flag.Value.Type() == "policy" {
		return "a policy has " + retention.Grammar
	}
	by, isNumber := map[string]string{"num-snapshots": "keep-snapshots", "num-backups": "keep-backups"}[flag.Name]
	if _, err := retention.Parse(text); err != nil || !isNumber {
		return ""
	}
	return "--" + by + " " + text + " keeps by the calendar"
}

// NeedKnown refuses words that no command below help or completion has.
func NeedKnown(c *cobra.Command, args []string) error {
	among := c
	if c.Name() == "help" {
		among = c.Root()
	}
	for _, word := range args {
		next := Subcommand(among, word)
		if next == nil {
			return Misused(fmt.Sprintf("%s: there is no %q", c.CommandPath(), word), cmp.Or(Suggestion(NearestCommand(among, word)), "`"+among.CommandPath()+" --help` lists what there is"))
		}
		among = next
	}
	return nil
}

// NeedPlace refuses a command line without the place that it is about.
func NeedPlace(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return Misused(name+" is missing", "usage: "+c.UseLine()+"; more with --help")
		}
		return nil
	}
}

// Suggestion is a hint at a word, none at an empty one.
func Suggestion(word string) string {
	if word == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", word)
}

// NeedNothing refuses arguments.
func NeedNothing(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Misused(fmt.Sprintf("%s takes options only, not %q", c.CommandPath(), args[0]), "usage: "+c.UseLine()+"; more with --help")
	}
	return nil
}
