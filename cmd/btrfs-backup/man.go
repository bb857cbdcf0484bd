//go:build man

package main

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"btrfs-backup/internal/manual"
)

// addManCommand adds a command that writes the man pages; scripts/man runs it. Only a build with the tag man has it, which
// keeps their text out of the program.
func addManCommand(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:    "man DIRECTORY",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return writeManPages(root, args[0]) },
	})
}

// writeManPages writes a page for the program and one for each of its commands.
func writeManPages(root *cobra.Command, dir string) error {
	for _, c := range withCommands(root) {
		if !isOwn(c) {
			continue
		}
		file := filepath.Join(dir, pageName(c)+".8")
		if err := os.WriteFile(file, []byte(manPage(c)), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "btrfs-backup.toml.5"), []byte(configPage()), 0o644)
}

// isOwn leaves out the commands that cobra adds, which explain themselves.
func isOwn(c *cobra.Command) bool {
	return !c.Hidden && c.Name() != "completion" && c.Name() != "help" && (!c.HasParent() || isOwn(c.Parent()))
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page is a man page in the making, in the language of groff_man(7).
type page struct{ strings.Builder }

func manPage(c *cobra.Command) string {
	var p page
	extra := manual.Commands[strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" ")]
	p.macro("TH", strings.ToUpper(pageName(c)), "8", "", "btrfs-backup", "System administration")
	p.macro("SH", "NAME")
	p.text(pageName(c) + " - " + lowerFirst(c.Short))
	p.macro("SH", "SYNOPSIS")
	p.synopsis(c)
	p.macro("SH", "DESCRIPTION")
	p.text(c.Long)
	p.sections(extra.Description)
	p.macro("SH", "OPTIONS")
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	groups := optionGroups(c)
	for _, g := range groups {
		if len(groups) > 1 {
			p.macro("SS", g.Title)
		}
		g.VisitAll(p.option)
	}
	p.sections(extra.Sections)
	p.macro("SH", "EXAMPLES")
	p.examples(c.Example + extra.Examples)
	p.macro("SH", "SEE ALSO")
	p.text(extra.SeeAlso)
	return p.String()
}

func (p *page) macro(name string, args ...string) {
	p.WriteString("." + name)
	for _, arg := range args {
		p.WriteString(` "` + escape(arg) + `"`)
	}
	p.WriteByte('\n')
}

// text adds paragraphs.
func (p *page) text(text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			p.macro("PP")
		}
		for line := range strings.Lines(paragraph) {
			p.WriteString(escapeLine(strings.TrimSpace(line)) + "\n")
		}
	}
}

func (p *page) synopsis(c *cobra.Command) {
	p.usage(c)
	for _, sub := range c.Commands() {
		if isOwn(sub) && sub.Annotations[usageAnnotation] == "" {
			p.macro("br")
			p.usage(sub)
		}
	}
}

func (p *page) usage(c *cobra.Command) {
	command := c.CommandPath()
	if c.Annotations[usageAnnotation] != "" {
		command = c.Root().Name()
	}
	rest := strings.TrimPrefix(strings.TrimSuffix(usageOf(c), " [flags]"), command)
	p.WriteString(`\fB` + escape(command) + `\fR` + escape(rest) + "\n")
}

func (p *page) option(f *pflag.Flag) {
	name, usage := pflag.UnquoteUsage(f)
	names := `\fB` + escape("--"+f.Name) + `\fR`
	if f.Shorthand != "" {
		names = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + names
	}
	if takesValue(f) {
		names += `=\fI` + escape(cmp.Or(name, "VALUE")) + `\fR`
	}
	p.macro("TP")
	p.WriteString(names + "\n")
	if f.DefValue != "" && takesValue(f) && f.DefValue != "0" && f.DefValue != "[]" {
		usage += " (default: " + f.DefValue + ")"
	}
	p.WriteString(escapeLine(usage) + "\n")
}

// key tells of an option as a key of a file.
func (p *page) key(f *pflag.Flag) {
	name, usage := pflag.UnquoteUsage(f)
	p.macro("TP")
	p.WriteString(`\fB` + escape(f.Name) + `\fR = \fI` + escape(cmp.Or(name, "true")) + "\\fR\n")
	p.WriteString(escapeLine(usage) + "\n")
}

// lines sets lines as they are.
func (p *page) lines(text string) {
	for line := range strings.Lines(text) {
		p.WriteString(escapeLine(strings.TrimSuffix(line, "\n")) + "\n")
	}
}

func (p *page) sections(all []manual.Section) {
	for _, s := range all {
		p.macro(cmp.Or(s.Macro, "SH"), s.Title)
		p.text(s.Text)
		for _, item := range s.Items {
			p.macro("TP")
			p.WriteString(`\fB` + escape(item[0]) + "\\fR\n")
			p.WriteString(escapeLine(item[1]) + "\n")
		}
	}
}

// examples sets lines of a command and, two or more spaces later, what it does.
func (p *page) examples(examples string) {
	for line := range strings.Lines(examples) {
		command, purpose, _ := strings.Cut(strings.TrimSpace(line), "  ")
		p.macro("TP")
		p.WriteString(`\fB` + escape(command) + "\\fR\n")
		if purpose != "" {
			p.WriteString(escape(strings.TrimSpace(purpose)) + "\n")
		}
	}
}

// escape keeps groff from reading text as instructions, and hyphens from becoming others.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, `"`, `\(dq`).Replace(text)
}

// escapeLine also guards the characters that are special at the beginning of a line.
func escapeLine(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + escape(line)
	}
	return escape(line)
}

func lowerFirst(text string) string {
	first := []rune(text)
	first[0] = unicode.ToLower(first[0])
	return string(first)
}
