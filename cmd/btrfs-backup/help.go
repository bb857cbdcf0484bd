package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const helpTemplate = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}{{with or .Long .Short}}{{. | trimTrailingWhitespaces}}

{{end}}Usage: {{usageOf .}}
{{with commandNames .}}       COMMAND --help: {{.}}
{{end}}{{if .HasAvailableLocalFlags}}{{range helpGroups .}}
{{.Title}}:
{{.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{end}}`

func init() {
	cobra.AddTemplateFunc("helpGroups", helpGroups)
	cobra.AddTemplateFunc("commandNames", commandNames)
	cobra.AddTemplateFunc("usageOf", usageOf)
}

// usageAnnotation holds the command line of what is explained under a name that is no command.
const usageAnnotation = "usage"

func usageOf(c *cobra.Command) string {
	if usage := c.Annotations[usageAnnotation]; usage != "" {
		return usage
	}
	return c.UseLine()
}

// commandNames names the commands that have examples.
func commandNames(c *cobra.Command) string {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Example != "" {
			names = append(names, sub.Name())
		}
	}
	return wrap(names, "\n                       ", 80)
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
var elsewhere = []string{rsyncTitle, furtherTitle}

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

// grouped defines options under a title.
func grouped(f *pflag.FlagSet, title string, define func(*pflag.FlagSet)) {
	group := newFlagSet()
	define(group)
	group.VisitAll(func(flag *pflag.Flag) {
		flag.Annotations = map[string][]string{groupAnnotation: {title}}
		f.AddFlag(flag)
	})
}

func newFlagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SortFlags = false
	return f
}

// optionGroups gives the options of a command in the order of their definition. Those without a title come last on the screen.
func optionGroups(c *cobra.Command) []optionGroup {
	var groups []optionGroup
	rest := newFlagSet()
	c.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		title := strings.Join(flag.Annotations[groupAnnotation], "")
		switch last := len(groups) - 1; {
		case flag.Hidden:
		case title == "":
			rest.AddFlag(flag)
		case last >= 0 && groups[last].Title == title:
			groups[last].AddFlag(flag)
		default:
			groups = append(groups, optionGroup{title, newFlagSet()})
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
	groups[last].AddFlagSet(rest)
	return groups
}
