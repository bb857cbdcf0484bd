package takeover

import (
	"cmp"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// VeryHungryPi takes over a configuration of Very Hungry Pi, of its first version or a later one, which is called name in what is
// said of it.
func VeryHungryPi(name string, content []byte) (Result, error) {
	v := &vhpi{document: &document{program: "vhpi", name: name}, lists: make(map[string][]string),
		seconds: make(map[string]int)}
	v.text = v.lines(content)
	var root yaml.Node
	if err := yaml.Unmarshal(content, &root); err != nil {
		line := 1
		if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
			line, _ = strconv.Atoi(found[1]) // it is digits
		}
		v.complain(line, "it must be YAML, as Very Hungry Pi reads it", "%w", err)
	}
	if len(v.complaints) > 0 {
		return v.result()
	}
	for _, top := range v.pairs(&root) {
		switch top.key {
		case "app_cfg":
			v.readLibrary(top.value)
		case "jobs", "jobs_cfg":
			v.first = top.key == "jobs_cfg"
			v.jobs = top.value
		default:
			v.remark(top.of, left("there is nothing like "+top.key+" here"))
		}
	}
	if v.jobs == nil || len(v.jobs.Content) == 0 {
		v.complain(1, "they stand in a list: jobs, or jobs_cfg", "there are no jobs in it")
		return v.result()
	}
	for _, j := range v.jobs.Content {
		v.addJob(j)
	}
	return v.result()
}

var yamlLine = regexp.MustCompile(`line (\d+):`)

// vhpi is the taking over of a file.
type vhpi struct {
	*document
	text    []string
	first   bool // its first version, which splits options at blanks and looks for .backup_valid
	jobs    *yaml.Node
	lists   map[string][]string
	seconds map[string]int // of intervals
	named   *table         // [interval]
}

type pair struct {
	key   string
	of    origin
	value *yaml.Node
}

// pairs gives what a mapping holds.
func (v *vhpi) pairs(n *yaml.Node) (all []pair) {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	n = resolved(n)
	if n.Kind != yaml.MappingNode {
		if n.Tag != "!!null" && n.Kind != 0 {
			v.complain(n.Line, "write it as KEY: VALUE", "%s is no mapping", quoted(n.Value))
		}
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		all = append(all, pair{n.Content[i].Value, v.at(n.Content[i]), resolved(n.Content[i+1])})
	}
	return all
}

// text gives a value that is no list and no mapping.
func (p pair) text() string {
	if p.value == nil {
		return ""
	}
	return p.value.Value
}

func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// at gives the line of a node. YAML knows more ends of lines than a file usually has.
func (v *vhpi) at(n *yaml.Node) origin {
	if n.Line > len(v.text) {
		return origin{n.Line, n.Value}
	}
	line, _, _ := strings.Cut(v.text[n.Line-1], " #")
	return origin{n.Line, strings.TrimSpace(line)}
}

// words gives the elements of a list of texts.
func (v *vhpi) words(n *yaml.Node) (words []string) {
	if n == nil {
		return nil
	}
	if err := n.Decode(&words); err != nil {
		v.complain(n.Line, "write it as [A, B]", "%s is no list of texts", quoted(v.at(n).text))
	}
	return words
}

func (v *vhpi) readLibrary(app *yaml.Node) {
	for _, p := range v.pairs(app) {
		switch p.key {
		case "exclude_lib":
			for _, list := range v.pairs(p.value) {
				v.lists[list.key] = v.words(list.value)
				v.table("exclude", list.key).set("exclude", v.lists[list.key], list.of)
			}
		case "intervals":
			for _, interval := range v.pairs(p.value) {
				seconds, err := strconv.Atoi(interval.value.Value)
				if err != nil || seconds <= 0 {
					v.complain(interval.value.Line, "it is a number of seconds", "%s cannot be the interval %s", quoted(interval.value.Value), interval.key)
					seconds = 1 // that it is missing is no second complaint
				}
				v.seconds[interval.key] = seconds
			}
		default:
			v.remark(p.of, left("there is nothing like "+p.key+" here"))
		}
	}
}

// vhpiKeys are those of a job; one of the two for the destination is of the first version.
var vhpiKeys = []string{"name", "source_ip", "rsync_src", "rsync_dest", "rsync_dst", "rsync_options", "excludes", "exclude_lists", "snapshots"}

func (v *vhpi) addJob(n *yaml.Node) {
	given := make(map[string]pair)
	for _, p := range v.pairs(n) {
		if given[p.key] = p; !slices.Contains(vhpiKeys, p.key) {
			v.remark(p.of, left("there is nothing like "+p.key+" here"))
		}
	}
	if _, ok := given["rsync_dst"]; !ok {
		given["rsync_dst"] = given["rsync_dest"]
	}
	for _, needed := range []string{"rsync_src", "rsync_dst", "snapshots"} {
		if given[needed].value == nil {
			v.complain(n.Line, "a job needs rsync_src, rsync_dst (rsync_dest) and snapshots", "%s is missing", needed)
			return
		}
	}
	source, label := given["rsync_src"], given["name"]
	t := v.table("job", v.jobName(label.text(), path.Base(source.text())))
	if label.value != nil {
		t.entries = append(t.entries, entry{of: []origin{label.of}})
	}
	t.set("source", v.path(source), source.of)
	destination := v.path(given["rsync_dst"])
	t.set("destination", destination, given["rsync_dst"].of)
	t.note("before the first run: btrfs-backup index %s", quoted(destination))
	t.note("then backups share space with backup.latest and the snapshots of Very Hungry Pi, which are neither counted nor deleted")
	t.note("by rsync, also if the source is a btrfs subvolume")
	t.set("engine", "rsync")
	if v.first {
		t.note("Very Hungry Pi looked for this file in the source, too")
		t.set("marker", ".backup_valid")
	} else {
		t.note("refuse a source that lacks a file, such as an empty mount point: marker = \".backup_valid\"")
	}
	v.setOnline(t, given["source_ip"])
	v.setCopy(t, given)
	v.setSnapshots(t, given["snapshots"])
}

// path gives a path as it is meant. Those of the first version may be relative to the directory in which it is started.
func (v *vhpi) path(p pair) string {
	const started = "/opt/very_hungry_pi"
	text := p.text()
	machine, rest, isRemote := strings.Cut(text, ":")
	switch {
	case isRemote && !strings.Contains(machine, "/") && path.IsAbs(rest) && p.key == "rsync_src":
		v.remark(p.of, idle("it is reached by SSH with a key, never a password: ssh-copy-id "+machine))
		return machine + ":" + path.Clean(rest)
	case path.IsAbs(text):
		return path.Clean(text)
	case !v.first || text == "" || strings.HasPrefix(text, "~"):
		v.complain(p.of.line, "make it absolute", "%s is %s, which is no absolute path", p.key, quoted(text))
	}
	v.remark(p.of, left("a relative path, taken for one in "+started+", from where the README starts Very Hungry Pi: is it so?"))
	return path.Join(started, text)
}

func (v *vhpi) setOnline(t *table, p pair) {
	switch ip := p.text(); {
	case p.value == nil:
	case slices.Contains([]string{"localhost", "127.0.0.1", "::1", ""}, ip):
		v.remark(p.of, idle("this machine is online"))
	default:
		t.set("online", "ping:"+ip, p.of)
		t.note("for a machine that answers no ping: tcp:%s", net.JoinHostPort(ip, "22"))
	}
}

// An interval is one of which snapshots are kept.
type interval struct {
	name    string
	seconds int
	keep    int
}

// unit is one of time: of the calendar, or of a duration.
type unit struct {
	seconds int
	word    string
	letter  string
}

// calendar are the lengths that stand for units of the calendar, the longest first.
var calendar = []unit{{31536000, "yearly", "y"}, {2592000, "monthly", "m"}, {604800, "weekly", "w"}, {86400, "daily", "d"}, {3600, "hourly", "h"}}

// setSnapshots tells how often a backup is made, and which are kept.
func (v *vhpi) setSnapshots(t *table, snapshots pair) {
	var all []interval
	for _, p := range v.pairs(snapshots.value) {
		keep, err := strconv.Atoi(p.value.Value)
		seconds, known := v.seconds[p.key]
		switch {
		case err != nil || keep < 0:
			v.complain(p.value.Line, "it is a number of snapshots", "%s cannot be how many of %s are kept", quoted(p.value.Value), p.key)
		case keep > 0 && !known:
			v.complain(p.value.Line, "add it to app_cfg, intervals", "there is no interval %s", p.key)
		case keep > 0:
			all = append(all, interval{p.key, seconds, keep})
		}
	}
	if len(all) == 0 {
		v.remark(snapshots.of, left("no snapshots are kept, so there is nothing to make"))
		t.set("auto", false)
		return
	}
	slices.SortStableFunc(all, func(a, b interval) int { return cmp.Compare(a.seconds, b.seconds) })
	t.note("by the calendar: months do not drift, and a period without a backup is not counted")
	t.set("every", v.every(all[0]), snapshots.of)
	t.set("keep-backups", policy(all))
}

// every names how often the job is due.
func (v *vhpi) every(shortest interval) string {
	length := durationOf(shortest.seconds)
	for _, c := range calendar {
		if c.seconds == shortest.seconds {
			return c.word
		}
	}
	if slices.ContainsFunc(calendar, func(c unit) bool { return c.word == shortest.name }) { // the name has a meaning
		return length
	}
	if v.named == nil {
		v.named = v.table("interval")
	}
	if !slices.ContainsFunc(v.named.entries, func(e entry) bool { return e.key == shortest.name }) {
		v.named.set(shortest.name, length)
	}
	return shortest.name
}

// durationOf writes a number of seconds, or a minute if that is more.
func durationOf(seconds int) string {
	for _, unit := range []unit{{86400, "", "d"}, {3600, "", "h"}, {60, "", "m"}} {
		if seconds%unit.seconds == 0 {
			return fmt.Sprintf("%d%s", seconds/unit.seconds, unit.letter)
		}
	}
	return fmt.Sprintf("%ds", max(seconds, 60))
}

// policy gives what is kept, for intervals of which the first is the shortest. One that is no unit of the calendar is kept by as
// many of the next smaller unit as it spans: that is as much, or more.
func policy(all []interval) string {
	last := 0
	counts := make([]int, len(calendar))
	for i, one := range all {
		u := slices.IndexFunc(calendar, func(u unit) bool { return u.seconds <= one.seconds })
		if u < 0 || i == 0 && calendar[u].seconds != one.seconds { // a backup is made each time, so these are the newest
			last = max(last, spanned(one, all[0].seconds))
			continue
		}
		counts[u] = max(counts[u], spanned(one, calendar[u].seconds))
	}
	var terms []string
	if last > 0 {
		terms = append(terms, fmt.Sprintf("last=%d", last))
	}
	for u, c := range slices.Backward(calendar) {
		if counts[u] > 0 {
			terms = append(terms, fmt.Sprintf("%d%s", counts[u], c.letter))
		}
	}
	return strings.Join(terms, " ")
}

// spanned tells how many periods of some length all that is kept of an interval spans.
func spanned(one interval, seconds int) int { return (one.keep*one.seconds + seconds - 1) / seconds }
