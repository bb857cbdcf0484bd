package takeover

import (
	"path"
	"regexp"
	"strings"
)

// btrbkSection is a section of btrbk.conf(5). What is set in it counts for those in it, too.
type btrbkSection struct {
	origin
	kind    string // global, volume, subvolume or target
	parent  *btrbkSection
	at      btrbkPlace
	pattern bool // of subvolumes
	raw     bool

	settings map[string][]btrbkSetting // by option; the last one counts
	inner    []*btrbkSection           // volumes of global, subvolumes of a volume
	targets  []*btrbkSection
}

// btrbkSetting is a line with an option.
type btrbkSetting struct {
	origin
	value string // "no" is as in the file
}

// btrbkPlace is a directory as btrbk names it.
type btrbkPlace struct{ host, port, path string } // host is "" for this machine

// Btrbk takes over a file of btrbk, which is called name in what is said of it.
func Btrbk(name string, content []byte) (Result, error) {
	d := &document{program: "btrbk", name: name}
	b := &btrbk{document: d, root: newBtrbkSection(origin{}, "global", nil)}
	b.current = b.root
	for i, line := range d.lines(content) {
		b.add(origin{i + 1, line})
	}
	if len(d.complaints) > 0 {
		return d.result()
	}
	if log, of := b.root.get("transaction_log"); log != "" && log != "no" {
		t := d.table()
		t.set("log", "/var/log/btrfs-backup", of...)
		t.note("info.log in that directory has a line for each outcome, in another format than btrbk's")
	}
	for _, volume := range b.root.inner {
		for _, subvolume := range volume.inner {
			b.addJobs(subvolume)
		}
	}
	b.remarkUnused(b.root)
	if len(b.tables) == 0 {
		d.complain(1, "a subvolume is named by a line: subvolume PATH", "there is no subvolume that could be a source")
	}
	return d.result()
}

// btrbk is the taking over of a file.
type btrbk struct {
	*document
	root    *btrbkSection
	current *btrbkSection // that options belong to
}

func newBtrbkSection(of origin, kind string, parent *btrbkSection) *btrbkSection {
	return &btrbkSection{origin: of, kind: kind, parent: parent, settings: make(map[string][]btrbkSetting)}
}

var (
	// btrbkComment finds a hash that is not in quotes.
	btrbkComment = regexp.MustCompile(`^((?:[^"'#]*(?:"[^"]*"|'[^']*'))*[^"'#]*)#.*`)
	btrbkLine    = regexp.MustCompile(`^([a-zA-Z_]+)(?:\s+(.*))?$`)
	btrbkType    = regexp.MustCompile(`^([a-zA-Z_-]+)\s+(.*)$`)
	btrbkURL     = regexp.MustCompile(`^(?:ssh://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::([1-9][0-9]*))?|([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):)?(/.*)$`)
	btrbkQuotes  = regexp.MustCompile(`^(?:"(.*)"|'(.*)')$`)
)

// add reads a line.
func (b *btrbk) add(of origin) {
	line := strings.TrimSpace(btrbkComment.ReplaceAllString(of.text, "$1"))
	of.text = line
	if line == "" {
		return
	}
	found := btrbkLine.FindStringSubmatch(line)
	if found == nil {
		b.complain(of.line, "a line is an option and its value", "%s is no line of a btrbk.conf", quoted(line))
		return
	}
	switch word, value := strings.ToLower(found[1]), found[2]; word {
	case "volume":
		b.enter(of, word, b.root, value)
	case "subvolume":
		for b.current.kind != "volume" && b.current.kind != "global" {
			b.current = b.current.parent
		}
		if b.current == b.root { // subvolumes without a volume have one in common that is no place
			b.current = newBtrbkSection(origin{}, "volume", b.root)
			b.root.inner = append(b.root.inner, b.current)
		}
		b.enter(of, word, b.current, value)
	case "target":
		if b.current.kind == word {
			b.current = b.current.parent
		}
		b.enter(of, word, b.current, value)
	default:
		b.set(of, word, value)
	}
}

// enter opens a section.
func (b *btrbk) enter(of origin, kind string, parent *btrbkSection, value string) {
	s := newBtrbkSection(of, kind, parent)
	b.current = s
	if found := btrbkType.FindStringSubmatch(value); found != nil && kind == "target" {
		value, s.raw = found[2], strings.EqualFold(found[1], "raw")
		if !s.raw && !strings.EqualFold(found[1], "send-receive") {
			b.complain(of.line, "use send-receive or raw", "there is no target type %s", quoted(found[1]))
		}
	}
	value = btrbkQuotes.ReplaceAllString(value, "$1$2")
	if kind == "subvolume" && parent.at.path != "" && value != "" && !btrbkURL.MatchString(value) {
		s.at = parent.at
		s.at.path = path.Join(parent.at.path, value)
	} else if found := btrbkURL.FindStringSubmatch(value); found != nil {
		s.at = btrbkPlace{found[1] + found[3], found[2], path.Clean(found[4])}
	}
	s.pattern = strings.Contains(s.at.path, "*")
	traverses := strings.Contains("/"+value+"/", "/../")
	if s.at.path == "" || traverses || s.pattern && kind != "subvolume" {
		b.complain(of.line, "name it by an absolute path, HOST:/PATH or ssh://HOST[:PORT]/PATH", "%s cannot be a %s", quoted(value), kind)
	}
	if s.raw {
		b.remark(of, noRaw["*"])
	}
	if kind == "target" {
		parent.targets = append(parent.targets, s)
	} else {
		parent.inner = append(parent.inner, s)
	}
}

// set takes an option for the section that is open.
func (b *btrbk) set(of origin, name, value string) {
	option, ok := btrbkOptions[name]
	letter := b.current.kind[:1]
	switch {
	case !ok:
		b.complain(of.line, "see btrbk.conf(5)", "btrbk has no option %s", name)
		return
	case name == "snapshot_name" && b.current.pattern:
		b.complain(of.line, "see btrbk.conf(5)", "%s cannot stand in a section with a pattern", name)
		return
	case !strings.Contains(option.in, letter):
		b.complain(of.line, "see btrbk.conf(5)", "%s cannot stand in a %s section", name, b.current.kind)
		return
	}
	if value == "" {
		value = "yes"
	}
	words := []string{value}
	if btrbkWords.MatchString(name) {
		words = btrbkSeparator.Split(value, -1)
	}
	for _, word := range words {
		if !option.accepts(word) {
			b.complain(of.line, "see btrbk.conf(5)", "%s cannot be %s", name, quoted(word))
		}
		v, ok := option.says[word]
		if any, other := option.says["*"]; !ok && other {
			v, ok = any, true
		}
		if ok {
			b.remark(of, v)
		}
	}
	b.current.settings[name] = append(b.current.settings[name], btrbkSetting{of, strings.Join(words, " ")})
}

// get gives what counts in a section for an option: "" and no origin if nothing is set.
func (s *btrbkSection) get(name string) (value string, of []origin) {
	for ; s != nil; s = s.parent {
		if all := s.settings[name]; len(all) > 0 {
			last := all[len(all)-1]
			return last.value, []origin{last.origin}
		}
	}
	return "", nil
}

// allTargets gives the targets of a subvolume, those of outer sections first; what is there twice counts as the inner one.
func (s *btrbkSection) allTargets() []*btrbkSection {
	if s == nil {
		return nil
	}
	var all []*btrbkSection
	for _, outer := range s.parent.allTargets() {
		again := false
		for _, t := range s.targets {
			again = again || t.at == outer.at && t.raw == outer.raw
		}
		if !again {
			all = append(all, outer.in(s))
		}
	}
	return append(all, s.targets...)
}

// in gives a target as if it stood in an inner section.
func (s *btrbkSection) in(parent *btrbkSection) *btrbkSection {
	inner := *s
	inner.parent = parent
	return &inner
}

// remarkUnused tells which lines became neither keys nor remarks.
func (b *btrbk) remarkUnused(s *btrbkSection) {
	for _, all := range s.settings {
		for _, setting := range all {
			if !b.mentions(setting.origin) {
				b.remark(setting.origin, idle("nothing differs because of it"))
			}
		}
	}
	for _, inner := range append(s.inner, s.targets...) {
		if inner.line > 0 && !b.mentions(inner.origin) {
			b.remark(inner.origin, idle("no source is in it, or sent there"))
		}
		b.remarkUnused(inner)
	}
}
