package takeover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// PiServer takes over a configuration of PiServer Backup, which is called name in what is said of it. Only its README is known:
// sources with a type, hooks with pre, post and critical, and a destination. A source is the directory that it names, under
// whatever key.
func PiServer(name string, content []byte) (Result, error) {
	p := &piServer{document: &document{program: "piserver", name: name}, at: make(map[string]origin)}
	lines := p.lines(content)
	var root map[string]any
	if err := toml.Unmarshal(content, &root); err != nil {
		line := 1
		if where := new(toml.DecodeError); errors.As(err, &where) {
			line, _ = where.Position()
		}
		p.complain(line, "it must be TOML, as PiServer Backup reads it", "%w", err)
	}
	if len(p.complaints) > 0 {
		return p.result()
	}
	p.locate(content, lines)
	t := p.table("job", p.jobName("piserver"))
	p.setSources(t, tables(root["sources"]))
	p.setDestination(t, root["destination"])
	t.note("as often as your timer or cron starts PiServer Backup")
	t.set("every", "daily")
	t.note(`NOTHING IS EVER DELETED: keep-backups = "14d 8w 12m" would delete`)
	if len(tables(root["snapshot_hooks"])) > 0 {
		t.note("as in PiServer Backup, what is copied by rsync is copied between these hooks; leave it out to copy behind them")
		t.set("copy", "inside")
	}
	p.addHooks(t, "backup_hooks", "run", root)
	p.addHooks(t, "snapshot_hooks", "snapshot", root)
	for _, key := range slices.Sorted(maps.Keys(root)) {
		if !slices.Contains([]string{"sources", "destination", "backup_hooks", "snapshot_hooks"}, key) {
			p.remarkUnknown(key)
		}
	}
	return p.result()
}

// piServer is the taking over of a file.
type piServer struct {
	*document
	at map[string]origin // by "sources[0].type"
}

// locate finds the lines of keys.
func (p *piServer) locate(content []byte, lines []string) {
	var parser unstable.Parser
	parser.Reset(content)
	prefix := ""
	count := make(map[string]int)
	for parser.NextExpression() {
		e := parser.Expression()
		if e.Kind == unstable.Comment {
			continue
		}
		var parts []string
		var at origin
		for it := e.Key(); it.Next(); {
			line := parser.Shape(it.Node().Raw).Start.Line
			parts, at = append(parts, string(it.Node().Data)), origin{line, strings.TrimSpace(lines[line-1])}
		}
		key := strings.Join(parts, ".")
		switch e.Kind {
		case unstable.ArrayTable:
			prefix = fmt.Sprintf("%s[%d].", key, count[key])
			count[key]++
		case unstable.Table:
			prefix = key + "."
		default:
			p.at[prefix+key] = at
			continue
		}
		p.at[strings.TrimSuffix(prefix, ".")] = at
	}
}

// tables gives the tables of an array, or the one there is.
func tables(value any) (all []map[string]any) {
	switch value := value.(type) {
	case map[string]any:
		return []map[string]any{value}
	case []any:
		for _, one := range value {
			if t, ok := one.(map[string]any); ok {
				all = append(all, t)
			}
		}
	}
	return all
}

// where gives the line of a key, or that of what it stands in.
func (p *piServer) where(table string, i int, key string) origin {
	for _, name := range []string{fmt.Sprintf("%s[%d].%s", table, i, key), table + "." + key, fmt.Sprintf("%s[%d]", table, i), table} {
		if at, ok := p.at[name]; ok {
			return at
		}
	}
	return origin{}
}

func (p *piServer) remarkUnknown(key string) {
	at := p.where(key, 0, "")
	p.remark(cmp.Or(at, origin{text: key}), left("what it means is not known here: see keep-backups, [notify] and others in btrfs-backup.toml(5)"))
}

// setSources makes a set of the sources.
func (p *piServer) setSources(t *table, sources []map[string]any) {
	var set [][2]string
	var of []origin
	for i, source := range sources {
		at := p.where("sources", i, "")
		var dirs []string
		for _, key := range slices.Sorted(maps.Keys(source)) {
			text, _ := source[key].(string)
			switch {
			case path.IsAbs(text):
				dirs = append(dirs, path.Clean(text))
			case key == "type" && text != "rsync" && text != "btrfs":
				p.remark(p.where("sources", i, key), left("it is copied by rsync, or sent if it is a btrfs subvolume"))
			case key != "type" && key != "name":
				p.remark(p.where("sources", i, key), left("what it means is not known here"))
			}
		}
		if len(dirs) != 1 {
			p.complain(at.line, "leave one key whose value is the directory", "source %d names %d directories", i+1, len(dirs))
			continue
		}
		label, _ := source["name"].(string)
		name := strings.Trim(notInName.ReplaceAllString(cmp.Or(label, path.Base(dirs[0])), "-"), "-")
		set = append(set, [2]string{cmp.Or(name, fmt.Sprintf("source-%d", i+1)), dirs[0]})
		of = append(of, at)
	}
	if len(sources) == 0 {
		p.complain(1, `[[sources]], type = "rsync", and a directory`, "there are no sources in it")
	}
	t.set("set", set, of...)
}

func (p *piServer) setDestination(t *table, value any) {
	text, _ := value.(string)
	for _, inner := range tables(value) {
		for _, value := range inner {
			if dir, ok := value.(string); ok && path.IsAbs(dir) {
				text = dir
			}
		}
	}
	at := p.where("destination", 0, "")
	if !path.IsAbs(text) {
		p.complain(max(at.line, 1), `destination = "/mnt/disk/backups"`, "there is no destination, or it is no absolute path")
	}
	t.set("destination", text, at)
	t.note("the backups of PiServer Backup stay there; they are neither counted nor deleted")
}

// addHooks adds hooks, which run around a part of the run.
func (p *piServer) addHooks(job *table, key, around string, root map[string]any) {
	for i, hook := range tables(root[key]) {
		t := &table{name: "[" + job.name + ".hook]"}
		p.tables = append(p.tables, t)
		label, _ := hook["name"].(string)
		t.set("name", cmp.Or(label, fmt.Sprintf("%s-%d", around, i+1)), p.where(key, i, ""))
		for _, side := range [][2]string{{"pre", "before"}, {"post", "after"}} {
			if command := p.command(hook[side[0]], p.where(key, i, side[0])); len(command) > 0 {
				t.set(side[1], command, p.where(key, i, side[0]))
			}
		}
		t.set("around", around)
		critical, _ := hook["critical"].(bool)
		t.set("critical", critical, p.where(key, i, "critical"))
		for _, name := range slices.Sorted(maps.Keys(hook)) {
			if !slices.Contains([]string{"name", "pre", "post", "critical"}, name) {
				p.remark(p.where(key, i, name), left("what it means is not known here"))
			}
		}
	}
}

// command gives the words of a command: a text is one for a shell.
func (p *piServer) command(value any, at origin) (words []string) {
	switch value := value.(type) {
	case string:
		return []string{"sh", "-c", value}
	case []any:
		for _, one := range value {
			word, ok := one.(string)
			if !ok {
				p.complain(at.line, "a command is a text, or a list of words", "this is no command")
			}
			words = append(words, word)
		}
	}
	return words
}
