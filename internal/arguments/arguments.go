// Package arguments makes of the words of a command line those that cobra knows: argument files are replaced by what they hold, and
// abbreviated options by their full names. It also has the values of options that need more than pflag knows, and tells what is
// wrong with a command line, and which name a word most likely misspells.
package arguments

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/help"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// An Error is a command line that cannot be carried out as it is written. It may have a hint.
type Error struct{ error }

func (e Error) Unwrap() error { return e.error }

// Expand replaces argument files by their contents and abbreviated long options by their full names,
// neither of which cobra knows. The value of an option and whatever follows "--" stay as they are.
// Every error is an Error.
//
// The result is never nil: cobra would read os.Args in its place.
func Expand(root *cobra.Command, args []string) ([]string, error) {
	if IsCompletionRequest(args) {
		return args, nil
	}
	addDefaultCommands(root, args)
	e := &expander{seekCommand: true, args: make([]string, 0, len(args))}
	e.enter(root)
	for _, arg := range args {
		if err := e.add(arg); err != nil {
			return nil, err
		}
	}
	return e.args, nil
}

// IsCompletionRequest recognises a shell asking for completions: the words are half typed, so nothing in them may fail.
func IsCompletionRequest(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// addDefaultCommands adds what cobra itself adds only when it executes root, too late for Expand.
func addDefaultCommands(root *cobra.Command, args []string) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
}

// expander reads arguments one by one the way pflag will, so that it can tell options, values and positionals apart.
type expander struct {
	command     *cobra.Command // whose options are known
	seekCommand bool           // the next positional may be the name of a command
	needValue   bool           // the next argument is the value of the option before it
	literal     bool           // "--" has been read
	files       []argFile      // being read, each included by the one before it
	args        []string       // the result so far
}

// enter makes the options of command known.
func (e *expander) enter(command *cobra.Command) {
	command.InitDefaultHelpFlag()
	command.InitDefaultVersionFlag()
	e.command = command
}

func (e *expander) add(arg string) error {
	switch {
	case e.needValue:
		e.addValue(arg)
	case e.literal:
		e.args = append(e.args, arg)
	case arg == "--":
		e.literal = true
		e.args = append(e.args, arg)
	case strings.HasPrefix(arg, "--"):
		return e.addLong(arg)
	case strings.HasPrefix(arg, "-"):
		return e.addShorts(arg)
	case strings.HasPrefix(arg, "@"):
		return e.addFile(arg)
	default:
		e.addPositional(arg)
	}
	return nil
}

func (e *expander) addPositional(arg string) {
	e.args = append(e.args, arg)
	if !e.seekCommand || arg == "" { // cobra looks for the command behind an empty word too
		return
	}
	if command := Subcommand(e.command, arg); command != nil {
		e.enter(command)
	} else {
		e.seekCommand = false
	}
}

func (e *expander) addValue(value string) {
	e.needValue = false
	last := len(e.args) - 1
	option := e.args[last]
	isCluster := len(option) > len("-x") && !strings.HasPrefix(option, "--")
	if isCluster && Subcommand(e.command, value) != nil {
		// When cobra looks for the command it sees that "list" is a value in "-T -p list", but not in "-Tp list".
		letter := len(option) - 1
		e.args = append(e.args[:last], option[:letter], "-"+option[letter:])
	}
	e.args = append(e.args, value)
}

// addLong adds --NAME or --NAME=VALUE, where NAME may be abbreviated.
func (e *expander) addLong(arg string) error {
	name, _, hasValue := strings.Cut(arg[len("--"):], "=")
	flag, err := e.longFlag(name)
	if err != nil {
		return err
	}
	e.needValue = !hasValue && help.TakesValue(flag)
	e.args = append(e.args, "--"+flag.Name+strings.TrimPrefix(arg, "--"+name))
	return nil
}

// longFlag finds the option called name, or else the only one whose name begins with it.
func (e *expander) longFlag(name string) (*pflag.Flag, error) {
	flags := e.command.Flags()
	if flag := flags.Lookup(name); flag != nil {
		return flag, nil
	}
	switch names := flagsWithPrefix(flags, name); len(names) {
	case 0:
		return nil, e.unknownLong(name)
	case 1:
		return flags.Lookup(names[0]), nil
	default:
		return nil, e.errorf("", "ambiguous option --%s: could be --%s", name, strings.Join(names, ", --"))
	}
}

func (e *expander) unknownLong(name string) error {
	var forward string
	if match := Nearest(name, VisibleFlags(e.command.Flags())); match != "" {
		forward = fmt.Sprintf("did you mean --%s?", match)
	}
	return e.errorf(forward, "unknown option --%s", name)
}

// addShorts adds a cluster of short options like -TSN3. A single dash is a positional to pflag, but never a command.
func (e *expander) addShorts(cluster string) error {
	for i := 1; i < len(cluster); i++ {
		flag := e.command.Flags().ShorthandLookup(cluster[i : i+1])
		if flag == nil {
			return e.unknownShort(cluster, i)
		}
		rest := cluster[i+1:]
		if help.TakesValue(flag) {
			e.needValue = rest == ""
			break
		}
		if isShortValue(rest) {
			break
		}
	}
	e.args = append(e.args, cluster)
	return nil
}

// isShortValue reports whether pflag takes what follows the letter of an option without a value for one, as in -q=false.
func isShortValue(rest string) bool {
	return len(rest) > len("=") && rest[0] == '='
}

func (e *expander) unknownShort(cluster string, i int) error {
	_, size := utf8.DecodeRuneInString(cluster[i:])
	option := "-" + cluster[i:i+size]
	if option == cluster {
		return e.errorf("", "unknown option %s", option)
	}
	return e.errorf("", "unknown option %s in %s", option, cluster)
}

// errorf makes an Error that tells the line of the argument file being read, if any.
func (e *expander) errorf(forward, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	if len(e.files) > 0 {
		msg = fmt.Sprintf("%s: %s", e.files[len(e.files)-1], msg)
	}
	return Error{hint.New(errors.New(msg), forward)}
}

// flagsWithPrefix gives the sorted names that begin with prefix. The empty prefix abbreviates nothing.
func flagsWithPrefix(flags *pflag.FlagSet, prefix string) []string {
	var names []string
	flags.VisitAll(func(flag *pflag.Flag) {
		if prefix != "" && strings.HasPrefix(flag.Name, prefix) {
			names = append(names, flag.Name)
		}
	})
	slices.Sort(names)
	return names
}

// VisibleFlags gives the names of the options that are shown.
func VisibleFlags(flags *pflag.FlagSet) []string {
	var names []string
	flags.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	})
	return names
}

// Subcommand finds the command right below parent that is called name, or nil.
func Subcommand(parent *cobra.Command, name string) *cobra.Command {
	for _, command := range parent.Commands() {
		if command.Name() == name || command.HasAlias(name) {
			return command
		}
	}
	return nil
}

// NearestCommand gives the name of the command that word most likely misspells, or "".
// A word with a slash is a path on purpose.
func NearestCommand(root *cobra.Command, word string) string {
	if strings.Contains(word, "/") {
		return ""
	}
	addDefaultCommands(root, nil)
	var names []string
	for _, command := range root.Commands() {
		if !command.Hidden && command.Deprecated == "" {
			names = append(names, command.Name())
		}
	}
	return Nearest(word, names)
}

// Nearest gives the name that word most likely misspells, or "".
func Nearest(word string, names []string) string {
	const maxDistance = 2
	if word == "" {
		return "" // cobra suggests whatever begins with word
	}
	// cobra suggests commands only, and neither hidden ones nor help: so every name becomes a command.
	var guide cobra.Command
	for _, name := range names {
		guide.AddCommand(&cobra.Command{Use: name, Run: func(*cobra.Command, []string) {}})
	}
	for guide.SuggestionsMinimumDistance = range maxDistance + 1 {
		if matches := guide.SuggestionsFor(word); len(matches) > 0 {
			return matches[0]
		}
	}
	return ""
}
