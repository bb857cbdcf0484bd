// Package help sets what commands tell of themselves: their help, which fits a screen, and their man pages.
package help

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const template = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}{{with or .Long .Short}}{{. | trimTrailingWhitespaces}}

{{end}}Usage: {{usageOf .}}{{commandNames .}}
{{if .HasAvailableLocalFlags}}{{range helpGroups .}}
{{.Title}}:
{{.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{end}}`

// Titles of the groups of options that a screen has no room for.
const (
	RsyncTitle   = "Directories that are not btrfs subvolumes"
	FurtherTitle = "Further options"
)

// Set makes a command, and those below it, tell of themselves so.
func Set(root *cobra.Command) { root.SetHelpTemplate(template) }

// WithCommands gives a command and all below it.
func WithCommands(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		all = append(all, WithCommands(sub)...)
	}
	return all
}

// TakesValue tells that an option has a value.
func TakesValue(flag *pflag.Flag) bool { return flag.NoOptDefVal == "" }

func init() {
	cobra.AddTemplateFunc("helpGroups", helpGroups)
	cobra.AddTemplateFunc("commandNames", commandNames)
	cobra.AddTemplateFunc("usageOf", usageOf)
}

// UsageAnnotation holds the command line of what is explained under a name that is no command.
const UsageAnnotation = "usage"

func usageOf(c *cobra.Command) string {
	if usage := c.Annotations[UsageAnnotation]; usage != "" {
		return usage
	}
	return c.UseLine()
}

// commandNames names the commands that have examples, those of a group in a line.
func commandNames(c *cobra.Command) string {
	names := make(map[string][]string)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Example != "" && sub.Annotations[UsageAnnotation] == "" {
			names[sub.GroupID] = append(names[sub.GroupID], sub.Name())
		}
	}
	var text strings.Builder
	if len(names[""]) > 0 {
		fmt.Fprintf(&text, "\n       COMMAND --help: %s", wrap(names[""], "\n                       ", 80))
	}
	if len(c.Groups()) > 0 {
		fmt.Fprintf(&text, ", or %s COMMAND --help", c.CommandPath())
	}
	for _, group := range c.Groups() {
		fmt.Fprintf(&text, "\n  %-19s%s", group.Title, strings.Join(names[group.ID], " "))
	}
	return text.String()
}

// Group adds commands that people need for one thing, told by a title.
func Group(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
	}
	root.AddCommand(commands...)
}

// wrap joins words by blanks, and by a break where a line, which begins as wide as the break, would be wider.
func wrap(words []string, lineBreak string, width int) string {
	var text strings.Builder
	begin := len(lineBreak) - 1
	at := begin
	for i, word := range words {
		switch {
		case i == 0:
		case at+1+len(word) > width:
			text.WriteString(lineBreak)
			at = begin
		default:
			text.WriteByte(' ')
			at++
		}
		text.WriteString(word)
		at += len(word)
	}
	return text.String()
}

// elsewhere are the groups of options that a screen has no room for, but other help and the man page.
var elsewhere = []string{RsyncTitle, FurtherTitle}

// helpGroups gives the options that the help of a command shows.
func helpGroups(c *cobra.Command) []optionGroup {
	return slices.DeleteFunc(optionGroups(c), func(g optionGroup) bool { return slices.Contains(elsewhere, g.Title) })
}

// An optionGroup is a part of a command's options under a title of its own.
type optionGroup struct {
	Title string
	*pflag.FlagSet
}

// groupAnnotation holds the title of an option's group.
const groupAnnotation = "group"

// Grouped defines options under a title.
func Grouped(f *pflag.FlagSet, title string, define func(*pflag.FlagSet)) {
	group := NewFlagSet()
	define(group)
	group.VisitAll(func(flag *pflag.Flag) {
		flag.Annotations = map[string][]string{groupAnnotation: {title}}
		f.AddFlag(flag)
	})
}

// NewFlagSet gives a set of options that keeps their order.
func NewFlagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SortFlags = false
	return f
}

// optionGroups gives the options of a command in the order of their definition. Those without a title come last on the screen.
func optionGroups(c *cobra.Command) []optionGroup {
	var groups []optionGroup
	rest := NewFlagSet()
	c.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		title := strings.Join(flag.Annotations[groupAnnotation], "")
		switch last := len(groups) - 1; {
		case flag.Hidden:
		case title == "":
			rest.AddFlag(flag)
		case last >= 0 && groups[last].Title == title:
			groups[last].AddFlag(flag)
		default:
			groups = append(groups, optionGroup{title, NewFlagSet()})
			groups[last+1].AddFlag(flag)
		}
	})
	if len(groups) == 0 {
		return []optionGroup{{"Options", rest}}
	}
	last := len(groups) - 1
	for last > 0 && slices.Contains(elsewhere, groups[last].Title) {
		last--
	}
	if slices.Contains(elsewhere, groups[last].Title) {
		return append([]optionGroup{{"Options", rest}}, groups...)
	}
	groups[last].AddFlagSet(rest)
	return groups
}

// Keys gives the options that are keys of a configuration, among others, and their names.
type Keys func() (*pflag.FlagSet, []string)
