package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// An Origin is a line of a file.
type Origin struct {
	File string
	Line int
}

func (o Origin) String() string { return fmt.Sprintf("%s:%d", o.File, o.Line) }

// value is a string, bool, int64, float64, other, []value or *table, and where it stands.
type value struct {
	any
	Origin
}

// other is a date, a time or a number that is too large: no key takes it.
type other string

// String writes the value as in a file.
func (v value) String() string {
	switch content := v.any.(type) {
	case string:
		return quote(content)
	case float64:
		return strings.ToLower(strconv.FormatFloat(content, 'g', -1, 64))
	case []value:
		texts := make([]string, len(content))
		for i, one := range content {
			texts[i] = one.String()
		}
		return "[" + strings.Join(texts, ", ") + "]"
	case *table:
		var texts []string
		for _, key := range content.keys {
			texts = append(texts, quoteKey(key)+" = "+content.values[key].String())
		}
		return "{ " + strings.Join(texts, ", ") + " }"
	}
	return fmt.Sprint(v.any)
}

// quote writes a text: the escapes of JSON are some of TOML's.
func quote(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // which a text can always be
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "\x7f", `\u007f`)
}

func quoteKey(key string) string {
	bare := func(r rune) bool {
		return r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z'
	}
	if key != "" && !strings.ContainsFunc(key, func(r rune) bool { return !bare(r) }) {
		return key
	}
	return quote(key)
}

// table has its keys in the order of the file: it counts for filters.
type table struct {
	Origin
	keys   []string
	values map[string]value
}

func newTable(at Origin) *table { return &table{Origin: at, values: make(map[string]value)} }

func (t *table) set(key string, v value) {
	if _, ok := t.values[key]; !ok {
		t.keys = append(t.keys, key)
	}
	t.values[key] = v
}

// table gives the table of a key, a new one if there is none.
func (t *table) table(key string, at Origin) *table {
	switch content := t.values[key].any.(type) {
	case *table:
		return content
	case []value: // of tables: the last one is continued
		if len(content) > 0 {
			if last, ok := content[len(content)-1].any.(*table); ok {
				return last
			}
		}
	}
	inner := newTable(at)
	t.set(key, value{inner, at})
	return inner
}

// parse reads a file. The library checks it first, as only so it finds keys and tables that are there twice.
func parse(file string, content []byte) (*table, error) {
	var checked map[string]any
	if err := toml.Unmarshal(content, &checked); err != nil {
		var where *toml.DecodeError
		if errors.As(err, &where) {
			line, _ := where.Position()
			return nil, fmt.Errorf("%s: %s", Origin{file, line}, strings.TrimPrefix(where.Error(), "toml: "))
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	d := document{file: file}
	for i, c := range content {
		if c == '\n' {
			d.ends = append(d.ends, uint32(i))
		}
	}
	d.parser.Reset(content)
	root := newTable(Origin{file, 1})
	into := root
	for d.parser.NextExpression() {
		switch e := d.parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			into = d.enter(root, e)
		case unstable.KeyValue:
			d.add(into, e)
		}
	}
	if d.hasNUL != (Origin{}) {
		return nil, fmt.Errorf("%s: a text holds the character NUL, which no path and no program can take", d.hasNUL)
	}
	return root, d.parser.Error()
}

type document struct {
	file   string
	ends   []uint32 // of lines
	hasNUL Origin
	parser unstable.Parser
}

func (d *document) at(n *unstable.Node) Origin {
	before, _ := slices.BinarySearch(d.ends, n.Raw.Offset)
	return Origin{d.file, before + 1}
}

// path gives the parts of a dotted key, and where it stands.
func (d *document) path(n *unstable.Node) (parts []string, at Origin) {
	for it := n.Key(); it.Next(); {
		parts, at = append(parts, string(it.Node().Data)), d.at(it.Node())
	}
	return parts, at
}

func (d *document) enter(root *table, e *unstable.Node) *table {
	parts, at := d.path(e)
	t := root
	for _, part := range parts[:len(parts)-1] {
		t = t.table(part, at)
	}
	last := parts[len(parts)-1]
	if e.Kind == unstable.Table {
		return t.table(last, at)
	}
	inner := newTable(at)
	before, _ := t.values[last].any.([]value)
	t.set(last, value{append(slices.Clip(before), value{inner, at}), at})
	return inner
}

func (d *document) add(t *table, e *unstable.Node) {
	parts, at := d.path(e)
	for _, part := range parts[:len(parts)-1] {
		t = t.table(part, at)
	}
	t.set(parts[len(parts)-1], d.value(e.Value(), at))
}

func (d *document) value(n *unstable.Node, at Origin) value {
	text := string(n.Data)
	switch n.Kind {
	case unstable.Bool:
		return value{text == "true", at}
	case unstable.Integer:
		if number, err := strconv.ParseInt(text, 0, 64); err == nil {
			return value{number, at}
		}
	case unstable.Float:
		if number, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64); err == nil {
			return value{number, at}
		}
	case unstable.Array:
		all := []value{}
		for it := n.Children(); it.Next(); {
			element := at
			if raw := it.Node().Raw; raw.Length > 0 {
				element = d.at(it.Node())
			}
			all = append(all, d.value(it.Node(), element))
		}
		return value{all, at}
	case unstable.InlineTable:
		inner := newTable(at)
		for it := n.Children(); it.Next(); {
			d.add(inner, it.Node())
		}
		return value{inner, at}
	}
	if n.Kind == unstable.String {
		if strings.ContainsRune(text, 0) {
			d.hasNUL = at
		}
		return value{text, at}
	}
	return value{other(text), at}
}
