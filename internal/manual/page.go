package manual

import (
	"cmp"
	"strings"
)

// A Page is a man page in the making, in the language of groff_man(7).
type Page struct{ strings.Builder }

// Macro adds a line that is an instruction.
func (p *Page) Macro(name string, args ...string) {
	p.WriteString("." + name)
	for _, arg := range args {
		p.WriteString(` "` + Escape(arg) + `"`)
	}
	p.WriteByte('\n')
}

// Text adds paragraphs.
func (p *Page) Text(text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			p.Macro("PP")
		}
		for line := range strings.Lines(paragraph) {
			p.WriteString(EscapeLine(strings.TrimSpace(line)) + "\n")
		}
	}
}

// Lines sets lines as they are.
func (p *Page) Lines(text string) {
	for line := range strings.Lines(text) {
		p.WriteString(EscapeLine(strings.TrimSuffix(line, "\n")) + "\n")
	}
}

// Sections adds sections, with their items.
func (p *Page) Sections(all []Section) {
	for _, s := range all {
		p.Macro(cmp.Or(s.Macro, "SH"), s.Title)
		p.Text(s.Text)
		for _, item := range s.Items {
			p.Macro("TP")
			p.WriteString(Bold(item[0]) + "\n")
			p.WriteString(EscapeLine(item[1]) + "\n")
		}
	}
}

// Examples sets lines of a command and, two or more spaces later, what it does.
func (p *Page) Examples(examples string) {
	for line := range strings.Lines(examples) {
		command, purpose, _ := strings.Cut(strings.TrimSpace(line), "  ")
		p.Macro("TP")
		p.WriteString(Bold(command) + "\n")
		if purpose != "" {
			p.WriteString(Escape(strings.TrimSpace(purpose)) + "\n")
		}
	}
}

// Escape keeps groff from reading text as instructions, and hyphens from becoming others.
func Escape(text string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, `"`, `\(dq`).Replace(text)
}

// EscapeLine also guards the characters that are special at the beginning of a line.
func EscapeLine(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + Escape(line)
	}
	return Escape(line)
}

// Bold sets text in bold type.
func Bold(text string) string { return `\fB` + Escape(text) + `\fR` }
