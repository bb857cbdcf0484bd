package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const helpTemplate = `{{if .HasExample}}Examples:
{{.Example}}

{{end}}{{with or .Long .Short}}{{. | trimTrailingWhitespaces}}

{{end}}Usage: {{.UseLine}}
{{range .Commands}}{{if and .IsAvailableCommand .Example}}       {{.UseLine}}
{{end}}{{end}}{{if .HasAvailableLocalFlags}}{{range optionGroups .}}
{{.Title}}:
{{.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{end}}`

func init() { cobra.AddTemplateFunc("optionGroups", optionGroups) }

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

// optionGroups gives the options of a command in the order of their definition. Those without a title come last.
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
	groups[len(groups)-1].AddFlagSet(rest)
	return groups
}
