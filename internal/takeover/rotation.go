package takeover

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rotationKeys is what becomes of the keys of rotate-backups that are no counts.
var rotationKeys = map[string]map[string]verdict{
	"minutely":          {"*": left("hours are the shortest periods")},
	"prefer-recent":     {"no": asHere, "*": left("the oldest of each period is kept, so that what is kept once stays")},
	"strict":            {"no": asHere, "*": idle("periods without a backup are not counted, so more is kept, never less")},
	"include-list":      {"": off, "*": left("only what has a name and a record of this program is counted")},
	"exclude-list":      {"": off, "*": idle("only what has a name and a record of this program is deleted")},
	"ionice":            {"*": left("set ionice in the job")},
	"use-sudo":          {"no": off, "*": idle("sudo is never used on this machine; on others: ssh-sudo = true")},
	"ssh-user":          {"*": left("write it into the destination: USER@HOST:/PATH")},
	"removal-command":   {"*": left("backups are deleted by this program alone")},
	"timestamp-pattern": {"*": left("only what has a name of this program is counted")},
}

var (
	iniSection = regexp.MustCompile(`^\[([^\]]+)\]\s*$`)
	iniLine    = regexp.MustCompile(`^([^=:\s][^=:]*?)\s*[=:]\s*(.*)$`)
)

// rotation gives what rotate-backups keeps in a folder, with what it is made of.
func (s *systemBackup) rotation(t *table, p systemPlace) string {
	counts := make(map[string]string)
	var of []origin
	chosen := "" // the first section that is about it counts, in all files
	for _, file := range s.given.Rotation {
		applies := false
		for i, line := range strings.Split(string(file.Content), "\n") {
			if line = strings.TrimSpace(line); line == "" || strings.ContainsAny(line[:1], "#;") {
				continue
			}
			at := word(fmt.Sprintf("%s:%d: %s", file.Name, i+1, line))
			if section := iniSection.FindStringSubmatch(line); section != nil {
				name := strings.TrimSpace(section[1])
				if chosen == "" && p.isIn(name) {
					chosen = name
				}
				applies = name == chosen
				continue
			}
			found := iniLine.FindStringSubmatch(line)
			if found == nil {
				s.complaints.Add("", "a line is [SECTION], or NAME = VALUE", "%s:%d: %s is neither", file.Name, i+1, quoted(line))
				continue
			}
			if !applies {
				continue
			}
			name, value := strings.ToLower(found[1]), found[2]
			if says, ok := rotationKeys[name]; ok {
				s.remark(at, orAny(says, value))
				continue
			}
			term, err := rotationTerm(name, value)
			if err != nil {
				s.complaints.Add("", "see the documentation of rotate-backups", "%s:%d: %s: %w", file.Name, i+1, name, err)
				continue
			}
			counts[name] = term
			of = append(of, at)
		}
	}
	if len(counts) == 0 {
		return "24h 7d 4w *m" // rsync-system-backup's own
	}
	var terms []string
	for _, c := range slices.Backward(calendar) {
		if term := counts[c.word]; term != "" && !strings.HasPrefix(term, "0") {
			terms = append(terms, term)
		}
	}
	t.entries = append(t.entries, entry{of: of})
	return cmp.Or(strings.Join(terms, " "), "last=1") // the newest is kept anyway
}

func orAny(says map[string]verdict, value string) verdict {
	if slices.Contains([]string{"false", "off", "0"}, strings.ToLower(value)) {
		value = "no"
	}
	if v, ok := says[value]; ok {
		return v
	}
	return says["*"]
}

// isIn tells that a section of rotate-backups is about the folder: DIR or HOST:DIR, which may be a pattern.
func (p systemPlace) isIn(section string) bool {
	dir := p.folder
	host, folder, isRemote := strings.Cut(section, ":")
	if isRemote != (p.host != "") {
		return false
	}
	if isRemote {
		dir = strings.TrimPrefix(dir, p.host+":")
		if host != p.host[strings.LastIndex(p.host, "@")+1:] {
			return false
		}
		section = folder
	}
	matches, err := path.Match(path.Clean(section), dir)
	return err == nil && matches
}

// rotationTerm writes a count as a term of a policy. It may be a number, "always", or arithmetic.
func rotationTerm(name, value string) (string, error) {
	for _, unit := range calendar {
		if unit.word != name {
			continue
		}
		if strings.EqualFold(value, "always") {
			return "*" + unit.letter, nil
		}
		expression, err := parser.ParseExpr(value)
		if err != nil {
			return "", fmt.Errorf("%s is no number", quoted(value))
		}
		n, err := evaluate(expression)
		if err != nil || n < 0 {
			return "", fmt.Errorf("%s is no number of backups", quoted(value))
		}
		return strconv.Itoa(n) + unit.letter, nil
	}
	return "", errors.New("there is no such key")
}

// evaluate computes an expression of whole numbers.
func evaluate(e ast.Expr) (int, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Atoi(e.Value)
	case *ast.ParenExpr:
		return evaluate(e.X)
	case *ast.BinaryExpr:
		x, errX := evaluate(e.X)
		y, errY := evaluate(e.Y)
		if err := errors.Join(errX, errY); err != nil {
			return 0, err
		}
		switch {
		case e.Op == token.ADD:
			return x + y, nil
		case e.Op == token.SUB:
			return x - y, nil
		case e.Op == token.MUL:
			return x * y, nil
		case e.Op == token.QUO && y != 0:
			return x / y, nil
		}
	}
	return 0, errors.New("not arithmetic")
}

// ReadRotation reads the named configurations of rotate-backups, or those that it looks for itself.
func ReadRotation(names []string) (files []File, err error) {
	if len(names) == 0 {
		home, _ := os.UserHomeDir()
		for _, start := range []string{"/etc/", home + "/.", home + "/.config/"} {
			for _, end := range []string{"rotate-backups.ini", "rotate-backups.d/*.ini"} {
				found, _ := filepath.Glob(start + end) // the pattern is none that could be wrong
				names = append(names, found...)
			}
		}
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: name, Content: content})
	}
	return files, nil
}
