package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/due"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/online"
)

// topKeys are those of a file itself.
var topKeys = []string{"default", "job", "disk", "interval", "exclude", "notify", "hook", "log", "textfile"}

// readAll makes values of the tables.
func (r *reader) readAll() {
	r.intervals, r.excludes = make(map[string]string), make(map[string]*table)
	for _, key := range r.root.keys {
		switch v := r.root.values[key]; key {
		case "interval":
			for name, v := range r.tableOf(key, v).values {
				r.intervals[name] = r.text(name, v)
			}
		case "exclude":
			for name, v := range r.tableOf(key, v).values {
				r.excludes[name] = r.tableOf(name, v)
			}
		case "notify":
			t := r.tableOf(key, v)
			r.fill(t, &r.config.Notify)
			r.addAll(t, r.config.Notify.Check())
		case "disk":
			r.readDisks(r.tableOf(key, v))
		case "hook":
			r.config.Hooks = r.hooks(v)
			for i, h := range r.config.Hooks {
				if h.Around != "" && h.Around != string(hook.Run) {
					r.complain(v.Origin, "move it to a job", "hook %d: around = %q is of a job", i+1, h.Around)
				}
			}
		case "log":
			r.config.Log = r.path(key, v)
		case "textfile":
			r.config.Textfile = r.path(key, v)
		case "default", "job":
		default:
			r.unknown(r.root, key, topKeys)
		}
	}
	r.readJobs()
}

func (r *reader) readJobs() {
	base := r.tableOf("default", r.root.values["default"])
	jobs := r.tableOf("job", r.root.values["job"])
	for _, name := range jobs.keys {
		own := r.tableOf(name, jobs.values[name])
		layers := []*table{base}
		if like, ok := own.values["like"]; ok {
			of, _ := jobs.values[r.text("like", like)].any.(*table)
			switch {
			case of == nil || of == own:
				r.complain(like.Origin, "name another job", "like = %s: there is no such job", like)
			case of.values["like"].any != nil:
				r.complain(like.Origin, "name the job that it is like", "like = %s: that job is like another one itself", like)
			default:
				layers = append(layers, of)
			}
		}
		r.readJob(name, own.Origin, combine(append(layers, own)), base)
	}
	if len(jobs.keys) == 0 && len(r.complaints) == 0 {
		r.complaints.Add("", "add a [job.NAME]; btrfs-backup config init writes one", "%s: there is no job in it", r.name())
	}
}

// name is what messages about the whole call it.
func (r *reader) name() string {
	if r.File != "" {
		return r.File
	}
	return DefaultFile()
}

// setting is a value of a job, wherever it comes from.
type setting struct {
	key string
	value
}

// combine lays tables over each other: a later value wins, tables merge. Own keys come first, since for filters the first that
// matches counts.
func combine(layers []*table) []setting {
	var all []setting
	for _, layer := range slices.Backward(layers) {
		for _, key := range layer.keys {
			v := layer.values[key]
			i := slices.IndexFunc(all, func(s setting) bool { return s.key == key })
			if i < 0 {
				all = append(all, setting{key, v})
				continue
			}
			own, isTable := all[i].any.(*table)
			inherited, both := v.any.(*table)
			if isTable && both {
				all[i].value = value{merged(own, inherited), own.Origin}
			}
		}
	}
	return all
}

func merged(own, inherited *table) *table {
	t := newTable(own.Origin)
	for _, s := range combine([]*table{inherited, own}) {
		t.set(s.key, s.value)
	}
	return t
}

// reading is that of one job.
type reading struct {
	*reader
	*Job
	*table
}

func (r *reader) readJob(name string, at Origin, settings []setting, base *table) {
	j := &Job{Name: name, Origin: at, Spec: job.Default(), Auto: true, OnBattery: true, Metered: true, settings: settings}
	j.Every, _ = due.Parse("daily", nil)
	j.Options = r.Source.Options(&j.Spec)
	t := newTable(at)
	for _, s := range settings {
		t.set(s.key, s.value)
		if base.values[s.key].Origin == s.Origin {
			j.Spec.Shared = append(j.Spec.Shared, s.key)
		}
	}
	if !nameForm.MatchString(name) {
		r.complain(at, "use letters, digits, and _ . + - for the name: [job.home]", "%q is no name of a job", name)
	}
	reading{r, j, t}.read()
	r.config.Jobs = append(r.config.Jobs, j)
}

var nameForm = regexp.MustCompile(`^[[:alnum:]_][[:alnum:]_.+-]{0,63}$`)

// keys are those of a job that are no options of the command line.
var keys = map[string]func(reading, value){
	"source":        func(r reading, v value) { r.Spec.Source = r.place("source", v) },
	"destination":   reading.destinations,
	"to":            func(reading, value) {}, // is read when the destinations are known
	"like":          func(reading, value) {},
	"set":           reading.members,
	"copy":          reading.copyWhen,
	"every":         reading.every,
	"max-age":       func(r reading, v value) { r.assign("max-age", v, &r.MaxAge) },
	"auto":          func(r reading, v value) { r.assign("auto", v, &r.Auto) },
	"tags":          func(r reading, v value) { r.assign("tags", v, &r.Tags) },
	"online":        reading.online,
	"on-battery":    func(r reading, v value) { r.OnBattery = r.run("on-battery", v) },
	"metered":       func(r reading, v value) { r.Metered = r.run("metered", v) },
	"exclude-lists": reading.excludeLists,
	"hook":          func(r reading, v value) { r.Hooks = r.hooks(v) },
}

func (r reading) read() {
	names := append(slices.Collect(maps.Keys(keys)), r.Options.Names()...)
	for _, key := range r.table.keys {
		v := r.values[key]
		switch take, ok := keys[key]; {
		case ok:
			take(r, v)
		case slices.Contains(r.Options.Names(), key):
			r.option(r.Options, key, v)
		default:
			r.unknown(r.table, key, names)
		}
	}
	_, one := r.values["source"]
	if _, several := r.values["set"]; !one && !several {
		r.complain(r.Job.Origin, `add source = "/home" or the like`, "job %s: its source is missing", r.Name)
	}
	r.readTo()
	r.addAll(r.table, slices.Concat(r.Options.Complete(), r.Spec.Check()))
}

// set assigns a value to a variable.
func (r *reader) assign(key string, v value, into any) {
	if err := assign(reflect.ValueOf(into).Elem(), v); err != nil {
		r.complain(v.Origin, "", "%s %w", key, err)
	}
}

func (r *reader) text(key string, v value) (text string) {
	r.assign(key, v, &text)
	return text
}

// path reads a path of this machine.
func (r *reader) path(key string, v value) string {
	path := r.text(key, v)
	if _, isText := v.any.(string); isText && !filepath.IsAbs(path) {
		r.complain(v.Origin, "begin it with a slash", "%s %q is no absolute path", key, path)
	}
	return path
}

// tableOf gives an empty table for what is none, and complains unless it is missing.
func (r *reader) tableOf(key string, v value) *table {
	t, ok := v.any.(*table)
	if !ok {
		if v.any != nil {
			r.complain(v.Origin, "write it as a table: [...]", "%s is no table", key)
		}
		t = newTable(v.Origin)
	}
	return t
}

// addAll adds complaints about settings at their lines.
func (r *reader) addAll(t *table, all hint.Complaints) {
	for _, c := range all {
		at, name := t.Origin, ""
		if v, ok := t.values[c.Setting]; ok {
			at = v.Origin
		}
		if c.Setting != "" {
			name = c.Setting + " "
		}
		r.complain(at, hint.Of(c), "%s%w", name, c.Err)
	}
}

// option sets an option of the command line.
func (r *reader) option(o Options, key string, v value) {
	elements, isList := v.any.([]value)
	if !isList {
		elements = []value{v}
	} else if !o.Repeatable(key) {
		r.complain(v.Origin, "give it one value", "%s takes no list", key)
		return
	}
	for _, e := range elements {
		text := e.String()
		switch content := e.any.(type) {
		case string:
			text = content
		case *table, []value, other:
			r.complain(e.Origin, "give it one value: a text in quotes, a number, true or false", "%s does not take %s", key, text)
			continue
		}
		if err := o.Set(key, text); err != nil {
			r.complain(e.Origin, hint.Of(err), "%w", err)
		}
	}
}

// place reads a place of this job. A path is absolute: nobody knows where the run will be started.
func (r *reader) place(key string, v value) job.Place {
	text := strings.ReplaceAll(r.text(key, v), "%h", hostName())
	if text == "" {
		return nil
	}
	if !strings.HasPrefix(text, "/") && !strings.Contains(text, ":") {
		r.complain(v.Origin, "begin it with a slash; another machine is HOST:/PATH", "%s %q is no absolute path", key, text)
		return nil
	}
	p, err := job.ParsePlace(text)
	if err != nil {
		r.complain(v.Origin, hint.Of(err), "%s %w", key, err)
	}
	return p
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

func (r reading) destinations(v value) {
	elements, isList := v.any.([]value)
	if !isList {
		elements = []value{v}
	}
	for _, e := range elements {
		if p := r.place("destination", e); p != nil {
			r.Spec.Destinations = append(r.Spec.Destinations, p)
		}
	}
}

// readTo reads what differs at single destinations.
func (r reading) readTo() {
	v, ok := r.values["to"]
	if !ok {
		return
	}
	settings := r.tableOf("to", v)
	for _, key := range settings.keys {
		at := settings.values[key].Origin
		p := r.place("to", value{key, at})
		if p == nil {
			continue
		}
		if !slices.Contains(r.Spec.Destinations, p) {
			r.complain(at, "name it as in destination", "to.%s: job %s has no such destination", quoteKey(key), r.Name)
			continue
		}
		if _, twice := r.Spec.To[p.String()]; twice {
			r.complain(at, "put it into one table", "to.%s: that is %s, which has a table already", quoteKey(key), p)
			continue
		}
		r.readAt(p, r.tableOf(key, settings.values[key]))
	}
}

// readAt reads what differs at one destination.
func (r reading) readAt(p job.Place, t *table) {
	spec := job.Default()
	options := r.reader.Options(&spec)
	may := append([]string{"keep-backups", "num-backups", "rate-limit", "mount-point"}, job.KeysAt(p)...)
	for _, key := range t.keys {
		v := t.values[key]
		switch {
		case key == "max-age":
			var age = r.MaxAge
			r.assign(key, v, &age)
			if r.MaxAgeAt == nil {
				r.MaxAgeAt = make(map[string]time.Duration)
			}
			r.MaxAgeAt[p.String()] = age
		case slices.Contains(may, key):
			r.option(options, key, v)
		default:
			r.unknown(t, key, append(may, "max-age"))
		}
	}
	if r.Spec.To == nil {
		r.Spec.To = make(map[string]job.To)
	}
	r.Spec.To[p.String()] = job.To{KeepBackups: spec.KeepBackups, RateLimit: spec.RateLimit, MountPoint: spec.Copy.MountPoint, Stores: spec.Stores}
}

func (r reading) every(v value) {
	every, err := due.Parse(r.text("every", v), r.intervals)
	if err != nil {
		r.complain(v.Origin, hint.Of(err), "every %w", err)
		return
	}
	r.Every = every
}

func (r reading) members(v value) {
	t := r.tableOf("set", v)
	for _, name := range t.keys {
		r.Spec.Members = append(r.Spec.Members, job.Member{Name: name, Source: r.place("set."+quoteKey(name), t.values[name])})
	}
}

func (r reading) copyWhen(v value) {
	switch text := r.text("copy", v); text {
	case "inside":
		r.Spec.CopyInside = true
	case "after":
	default:
		r.complain(v.Origin, `use "inside" or "after"`, "copy = %s is unknown", v)
	}
}

func (r reading) online(v value) {
	r.Online = r.text("online", v)
	if _, err := online.Parse(r.Online); err != nil {
		r.complain(v.Origin, hint.Of(err), "online %w", err)
	}
}

// run tells whether a job runs although something speaks against it.
func (r *reader) run(key string, v value) bool {
	text := r.text(key, v)
	if text != "skip" && text != "run" {
		r.complain(v.Origin, `use "skip" or "run"`, "%s = %s is unknown", key, v)
	}
	return text != "skip"
}

// excludeLists adds filters from the lists of [exclude.NAME], behind the job's own.
func (r reading) excludeLists(v value) {
	var names []string
	r.assign("exclude-lists", v, &names)
	for _, name := range names {
		list, ok := r.excludes[name]
		if !ok {
			r.complain(v.Origin, r.nearestOf(name, r.excludes), "exclude-lists: there is no [exclude.%s]", quoteKey(name))
			continue
		}
		for _, key := range list.keys {
			if !slices.Contains(filterKeys, key) {
				r.unknown(list, key, filterKeys)
				continue
			}
			r.option(r.Options, key, list.values[key])
		}
	}
}

var filterKeys = []string{"exclude", "exclude-from", "include", "skip", "skip-dir"}

func (r *reader) nearestOf(name string, all map[string]*table) string {
	names := slices.Sorted(maps.Keys(all))
	if near := r.Nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	if len(names) == 0 {
		return "add it; there is none"
	}
	return "there are: " + strings.Join(names, ", ")
}

func (r *reader) hooks(v value) (hooks []hook.Hook) {
	elements, ok := v.any.([]value)
	if !ok {
		r.complain(v.Origin, "write it as [[hook]] or [[job.NAME.hook]]", "hook is no list of tables")
	}
	for _, e := range elements {
		t := r.tableOf("hook", e)
		var h hook.Hook
		r.fill(t, &h)
		r.addAll(t, h.Check())
		if !r.Look {
			r.addAll(t, h.CheckHere())
		}
		hooks = append(hooks, h)
	}
	return hooks
}

func (r *reader) readDisks(disks *table) {
	for _, name := range disks.keys {
		t := r.tableOf(name, disks.values[name])
		d := disk.Disk{Name: name}
		r.fill(t, &d)
		r.addAll(t, d.Check())
		for _, other := range r.config.Disks {
			if filepath.Clean(d.Mount) == filepath.Clean(other.Mount) {
				r.complain(t.values["mount"].Origin, "give each disk a directory of its own", "disk %s is mounted where disk %s is", name, other.Name)
			}
		}
		r.config.Disks = append(r.config.Disks, d)
	}
}
