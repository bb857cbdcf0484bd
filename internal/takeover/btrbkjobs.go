package takeover

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// addJobs makes a job of a subvolume, or one of each that its pattern matches now.
func (b *btrbk) addJobs(s *btrbkSection) {
	if !s.pattern {
		b.addJob(s, s.at)
		return
	}
	if s.at.host != "" {
		b.remark(s.origin, left("subvolumes of another machine are not looked up: write a line for each"))
		return
	}
	paths, err := matching(s.at.path)
	switch {
	case err != nil:
		b.remark(s.origin, left("looking for subvolumes: "+err.Error()))
	case len(paths) == 0:
		b.remark(s.origin, left("no subvolume matches it on this machine"))
	default:
		b.remark(s.origin, left(fmt.Sprintf("there is a job for each of the %d that match now, and none for later ones", len(paths))))
	}
	for _, p := range paths {
		b.addJob(s, btrbkPlace{path: p})
	}
}

// matching gives the writable subvolumes whose paths match a pattern, in which only * is special.
func matching(pattern string) ([]string, error) {
	pattern = strings.NewReplacer(`\`, `\\`, "?", `\?`, "[", `\[`).Replace(pattern)
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(paths, func(path string) bool {
		dir, err := os.Open(path)
		if err != nil {
			return true
		}
		defer dir.Close()
		found, err := btrfs.Info(dir)
		return err != nil || btrfs.CheckSubvolume(dir) != nil || found.ReadOnly
	}), nil
}

// addJob makes a job of a subvolume.
func (b *btrbk) addJob(s *btrbkSection, at btrbkPlace) {
	base, baseOf := s.get("snapshot_name")
	if base == "" {
		base = map[bool]string{true: "ROOT", false: path.Base(at.path)}[at.path == "/"]
	}
	name := b.jobName(base, "root")
	t := b.table("job", name)
	source, of := s.place(at)
	if s.parent.line > 0 {
		of = append([]origin{s.parent.origin}, of...)
	}
	t.set("source", source, append(of, s.origin)...)
	targets := slices.DeleteFunc(s.allTargets(), func(t *btrbkSection) bool { return t.raw })
	b.setDestinations(t, targets)
	t.set("snapshot-prefix", base, baseOf...)
	format, formatOf := s.get("timestamp_format")
	t.set("name", "btrbk-"+cmp.Or(format, "long"), formatOf...)
	b.setFolder(t, s, at)
	b.setWhen(t, s, targets)
	b.setMachines(t, s, at, targets)
	b.setSubvolume(t, s, targets)
	b.setPolicies(t, name, s, targets)
}

// place writes a place as this program does.
func (s *btrbkSection) place(at btrbkPlace) (text string, of []origin) {
	if at.host == "" {
		return at.path, nil
	}
	user, userOf := s.get("ssh_user")
	port, portOf := s.get("ssh_port")
	if port == "default" || at.port != "" {
		port = at.port
	}
	machine := at.host
	if user = cmp.Or(user, "root"); user != "no" {
		machine = user + "@" + machine
	}
	if of = append(userOf, portOf...); port != "" {
		return "ssh://" + machine + ":" + port + at.path, of
	}
	return machine + ":" + at.path, of
}

func (b *btrbk) setDestinations(t *table, targets []*btrbkSection) {
	var places []string
	var all []origin
	for _, target := range targets {
		place, of := target.place(target.at)
		places = append(places, place)
		all = append(append(all, of...), target.origin)
		for _, name := range []string{"group", "noauto"} {
			for _, setting := range target.settings[name] {
				if !b.mentions(setting.origin) {
					b.remark(setting.origin, left("a run serves all destinations of a job: make a second job, with no-snapshot = true"))
				}
			}
		}
	}
	t.set("destination", places, unique(all)...)
}

func unique(all []origin) (once []origin) {
	for _, o := range all {
		if !slices.Contains(once, o) {
			once = append(once, o)
		}
	}
	return once
}

// setFolder tells where the snapshots are.
func (b *btrbk) setFolder(t *table, s *btrbkSection, at btrbkPlace) {
	dir, of := s.get("snapshot_dir")
	dir = strings.TrimSuffix(btrbkQuotes.ReplaceAllString(dir, "$1$2"), "/")
	volume := s.parent.at.path
	switch {
	case path.IsAbs(dir):
		volume = ""
	case volume == "" && dir != "":
		b.complain(of[0].line, "make it absolute, or add a volume", "snapshot_dir is relative, but subvolume %s has no volume", quoted(at.path))
	case volume == "":
		b.complain(s.line, "add an absolute snapshot_dir", "subvolume %s has neither snapshot_dir nor volume", quoted(at.path))
	}
	t.set("snapshot-folder", path.Clean(path.Join(volume, dir)), of...)
}

// setWhen tells when the job runs, and under which names it is known.
func (b *btrbk) setWhen(t *table, s *btrbkSection, targets []*btrbkSection) {
	if value, of := s.get("noauto"); value == "yes" {
		t.set("auto", false, of...)
	}
	var tags []string
	var all []origin
	for outer := s; outer != nil; outer = outer.parent {
		for _, setting := range outer.settings["group"] {
			tags = append(tags, strings.Fields(setting.value)...)
			all = append(all, setting.origin)
		}
	}
	t.set("tags", tags, all...)
	every := "daily"
	for _, x := range append(slices.Clone(targets), s) {
		for _, side := range []string{"snapshot", "target"} {
			least, _ := x.get(side + "_preserve_min")
			terms, _ := x.get(side + "_preserve")
			if strings.Contains(least+terms, "h") {
				every = "hourly"
			}
		}
	}
	t.note("btrbk.conf does not say when: as often as your timer or cron starts btrbk")
	t.set("every", every)
}

// A wish is what a part of a job asks for, where the job has one value for all.
type wish struct {
	value any
	of    []origin
	by    *btrbkSection
}

// agree sets what all wish, and tells which wish is not met.
func (b *btrbk) agree(t *table, key string, wishes []wish) {
	for i, w := range wishes {
		switch {
		case i == 0:
			t.set(key, w.value, w.of...)
		case written(w.value) != written(wishes[0].value):
			of := append(w.of, w.by.origin)
			b.remark(of[0], left(fmt.Sprintf("%s is %s here, but one of job %s: %s needs a job of its own, with no-snapshot = true, or ~/.ssh/config",
				key, written(w.value), strings.TrimPrefix(t.name, "job."), quoted(w.by.text))))
		default:
			last := &t.entries[len(t.entries)-1]
			if last.key == key {
				last.of = unique(append(last.of, w.of...))
			}
		}
	}
}

var sshOptions = []struct{ name, key string }{{"ssh_identity", "IdentityFile"}, {"ssh_cipher_spec", "Ciphers"}, {"ssh_compression", "Compression"}}

// setMachines tells how other machines are reached.
func (b *btrbk) setMachines(t *table, s *btrbkSection, at btrbkPlace, targets []*btrbkSection) {
	remote := slices.DeleteFunc(slices.Clone(targets), func(t *btrbkSection) bool { return t.at.host == "" })
	if at.host != "" {
		remote = append([]*btrbkSection{s}, remote...)
	}
	var options, sudo, compress []wish
	for _, x := range remote {
		var words []string
		var all []origin
		for _, option := range sshOptions {
			if value, of := x.get(option.name); !slices.Contains([]string{"", "no", "default"}, value) {
				words = append(words, option.key+"="+strings.ReplaceAll(value, " ", ","))
				all = append(all, of...)
			}
		}
		options = append(options, wish{words, all, x})
		backend, of := x.get("backend_remote")
		if backend == "" {
			backend, of = x.get("backend")
		}
		sudo = append(sudo, wish{backend == "btrfs-progs-sudo", of, x})
		value, of := x.get("stream_compress")
		how, known := map[string]string{"": "", "no": "none"}[value]
		if !known {
			how = "zstd" // in place of any other
		}
		compress = append(compress, wish{how, of, x})
	}
	b.agree(t, "ssh-opt", options)
	b.agree(t, "ssh-sudo", sudo)
	b.agree(t, "compress", compress)
}

// setSubvolume tells how snapshots are taken and sent.
func (b *btrbk) setSubvolume(t *table, s *btrbkSection, targets []*btrbkSection) {
	create, of := s.get("snapshot_create")
	t.set("no-snapshot", create == "no", of...)
	t.set("only-changed", create == "onchange", of...)
	var complete, sync []wish
	for _, target := range targets {
		incremental, of := target.get("incremental")
		complete = append(complete, wish{incremental == "no", of, target})
	}
	for _, x := range append([]*btrbkSection{s}, targets...) {
		commit, of := x.get("btrfs_commit_delete")
		sync = append(sync, wish{commit != "" && commit != "no", of, x})
	}
	b.agree(t, "no-incremental", complete)
	b.agree(t, "sync", sync)
}

// setPolicies tells what is kept and how fast it is sent: for all destinations, or where they differ, for each.
func (b *btrbk) setPolicies(t *table, name string, s *btrbkSection, targets []*btrbkSection) {
	t.set("compat", "btrbk")
	b.setKept(t, "keep-snapshots", s, "snapshot")
	own := make([]*table, len(targets))
	differ := false
	for i, target := range targets {
		own[i] = &table{}
		b.setKept(own[i], "keep-backups", target, "target")
		limit, of := target.get("rate_limit")
		if none := []string{"", "no", "0"}; slices.Contains(none, limit) {
			limit, of = target.get("rate_limit_remote")
			if slices.Contains(none, limit) {
				limit = ""
			}
		}
		own[i].set("rate-limit", strings.ToUpper(limit), of...)
		differ = differ || !slices.EqualFunc(own[i].entries, own[0].entries, func(a, b entry) bool {
			return a.key == b.key && a.value == b.value && a.note == b.note
		})
	}
	for i, target := range targets {
		if differ {
			place, _ := target.place(target.at)
			b.table("job", name, "to", place).entries = own[i].entries
			continue
		}
		for n, e := range own[i].entries {
			own[0].entries[n].of = unique(append(own[0].entries[n].of, e.of...))
		}
	}
	if !differ && len(own) > 0 {
		t.entries = append(t.entries, own[0].entries...)
	}
}

var noTerm = regexp.MustCompile(`^(within=)?0+[hdwmy]$`)

// setKept tells what is kept on a side. Without any line, btrbk keeps all.
func (b *btrbk) setKept(t *table, key string, s *btrbkSection, side string) {
	least, leastOf := s.get(side + "_preserve_min")
	terms, termsOf := s.get(side + "_preserve")
	of := slices.Concat(leastOf, termsOf)
	if least == "all" || least == "" {
		how := map[bool]string{true: "", false: ", as always when btrbk.conf does not say otherwise"}[least == "all"]
		t.entries = append(t.entries, entry{of: of, note: fmt.Sprintf(
			"NOTHING IS EVER DELETED: %s_preserve_min is \"all\"%s; %s = \"20d 10w *m\" would delete", side, how, key)})
		return
	}
	words := strings.Fields(strings.ToLower(terms))
	if terms == "no" {
		words = nil
	}
	switch least {
	case "no":
	case "latest":
		words = append([]string{"last=1"}, words...)
	default:
		words = append([]string{"within=" + least}, words...)
	}
	if words = slices.DeleteFunc(words, noTerm.MatchString); len(words) == 0 {
		words = []string{"last=1"} // the newest is kept anyway
	}
	if day, dayOf := s.get("preserve_day_of_week"); day != "" && day != "sunday" {
		words, of = append(words, "week-start="+day), append(of, dayOf...)
	}
	if hour, hourOf := s.get("preserve_hour_of_day"); hour != "" && hour != "0" {
		words, of = append(words, fmt.Sprintf("day-start=%02s:00", hour)), append(of, hourOf...)
	}
	policy := strings.Join(words, " ")
	if _, err := retention.Parse(policy); err != nil && len(termsOf) > 0 {
		b.complain(termsOf[0].line, "see btrbk.conf(5)", "%s_preserve: %w", side, err)
	}
	t.set(key, policy, of...)
}
