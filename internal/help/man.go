//go:build man

package help

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/manual"
)

// AddPages adds a command that writes the man pages; scripts/man runs it. Only a build with the tag man has it, which
// keeps their text out of the program.
func AddPages(root *cobra.Command, keys Keys) {
	root.AddCommand(&cobra.Command{
		Use:    "man DIRECTORY",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return writeManPages(root, keys, args[0]) },
	})
}

// writeManPages writes a page for the program and one for each of its commands.
func writeManPages(root *cobra.Command, keys Keys, dir string) error {
	for _, c := range WithCommands(root) {
		if !isOwn(c) {
			continue
		}
		file := filepath.Join(dir, pageName(c)+".8")
		if err := os.WriteFile(file, []byte(manPage(c)), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "btrfs-backup.toml.5"), []byte(configPage(keys)), 0o644)
}

// isOwn leaves out the commands that cobra adds, which explain themselves.
func isOwn(c *cobra.Command) bool {
	return !c.Hidden && c.Name() != "completion" && c.Name() != "help" && (!c.HasParent() || isOwn(c.Parent()))
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page is a man page in the making, in the language of groff_man(7).
type page struct{ manual.Page }

func manPage(c *cobra.Command) string {
	var p page
	extra := manual.Commands[strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")]
	p.Macro("TH", strings.ToUpper(pageName(c)), "8", "", "btrfs-backup", "System administration")
	p.Macro("SH", "NAME")
	p.Text(pageName(c) + " - " + lowerFirst(c.Short))
	p.Macro("SH", "SYNOPSIS")
	p.synopsis(c)
	p.Macro("SH", "DESCRIPTION")
	p.Text(c.Long)
	p.Sections(extra.Description)
	p.Macro("SH", "OPTIONS")
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	groups := optionGroups(c)
	for _, g := range groups {
		if len(groups) > 1 {
			p.Macro("SS", g.Title)
		}
		g.VisitAll(p.option)
	}
	p.Sections(extra.Sections)
	p.Macro("SH", "EXAMPLES")
	p.Examples(c.Example + extra.Examples)
	p.Macro("SH", "SEE ALSO")
	p.Text(extra.SeeAlso)
	return p.String()
}

func (p *page) synopsis(c *cobra.Command) {
	p.usage(c)
	for _, sub := range c.Commands() {
		if isOwn(sub) && sub.Annotations[UsageAnnotation] == "" {
			p.Macro("br")
			p.usage(sub)
		}
	}
}

func (p *page) usage(c *cobra.Command) {
	command := c.CommandPath()
	if c.Annotations[UsageAnnotation] != "" {
		command = c.Root().Name()
	}
	rest := strings.TrimPrefix(strings.TrimSuffix(usageOf(c), " [flags]"), command)
	p.WriteString(manual.Bold(command) + manual.Escape(rest) + "\n")
}

func (p *page) option(f *pflag.Flag) {
	name, usage := pflag.UnquoteUsage(f)
	names := manual.Bold("--" + f.Name)
	if f.Shorthand != "" {
		names = manual.Bold("-"+f.Shorthand) + ", " + names
	}
	if TakesValue(f) {
		names += `=\fI` + manual.Escape(cmp.Or(name, "VALUE")) + `\fR`
	}
	p.Macro("TP")
	p.WriteString(names + "\n")
	if f.DefValue != "" && TakesValue(f) && f.DefValue != "0" && f.DefValue != "[]" {
		usage += " (default: " + f.DefValue + ")"
	}
	p.WriteString(manual.EscapeLine(usage) + "\n")
}

// key tells of an option as a key of a file.
func (p *page) key(f *pflag.Flag) {
	name, usage := pflag.UnquoteUsage(f)
	p.Macro("TP")
	p.WriteString(manual.Bold(f.Name) + ` = \fI` + manual.Escape(cmp.Or(name, "true")) + "\\fR\n")
	p.WriteString(manual.EscapeLine(usage) + "\n")
}

func lowerFirst(text string) string {
	first := []rune(text)
	first[0] = unicode.ToLower(first[0])
	return string(first)
}
