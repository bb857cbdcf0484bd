package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/internal/config"
	"btrfs-backup/internal/job"
	"btrfs-backup/internal/takeover"
	"btrfs-backup/retention"
)

// readImported reads what was made of another program's configuration, as a run does.
func readImported(t testing.TB, r takeover.Result, err error) *config.Config {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "imported.toml")
	if err := os.WriteFile(file, []byte(r.Text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Text)
	}
	return c
}

// btrbkRow is what btrbk makes of its configuration, for one source and target.
type btrbkRow map[string]string

var btrbkField = regexp.MustCompile(`([a-z_]+)='((?:[^']|'\\'')*)'`)

func btrbkRows(t testing.TB, file string) (rows []btrbkRow) {
	t.Helper()
	out, err := exec.Command("btrbk", "-c", file, "list", "config", "--format=raw").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		row := btrbkRow{}
		for _, found := range btrbkField.FindAllStringSubmatch(line, -1) {
			row[found[1]] = found[2]
		}
		rows = append(rows, row)
	}
	return rows
}

var (
	btrbkStart = regexp.MustCompile(` \(([a-z]+), ([0-9:]+)\)$`)
	btrbkLeast = regexp.MustCompile(`^(\d+[hdwmy])\+ ?`)
	btrbkHost  = regexp.MustCompile(`(\S+)$`)
)

// policy reads what btrbk says that it keeps.
func (r btrbkRow) policy(t testing.TB, key string) retention.Policy {
	t.Helper()
	text := r[key]
	if text == "*d+" {
		return retention.Policy{}
	}
	text = btrbkStart.ReplaceAllString(btrbkLeast.ReplaceAllString(text, "within=$1 "), " week-start=$1 day-start=$2")
	if text == "" {
		text = "last=1"
	}
	text = strings.TrimSuffix(strings.Replace(text, " week-start=sunday", "", 1), " day-start=00:00")
	p, err := retention.Parse(text)
	if err != nil {
		t.Fatalf("%s %q: %v", key, r[key], err)
	}
	return p
}

// shown leaves out of a policy when days and weeks begin, where btrbk does not show it.
func shown(p retention.Policy) retention.Policy {
	if p.Of == (retention.Policy{}).Of {
		p.Calendar = retention.Calendar{}
	}
	return p
}

// place gives a place as btrbk reaches it.
func (r btrbkRow) place(t testing.TB, what, path string) job.Place {
	t.Helper()
	text := path
	if r[what+"_host"] != "" {
		text = "ssh://" + btrbkHost.FindString(r[what+"_rsh"])
		if r[what+"_port"] != "" {
			text += ":" + r[what+"_port"]
		}
		text += path
	}
	p, err := job.ParsePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAnImportedJobIsWhatBtrbkMakesOfItsConfiguration(t *testing.T) {
	const more = `snapshot_preserve_min 2d
target_preserve 20d
target_preserve_min no
preserve_day_of_week monday
preserve_hour_of_day 6
ssh_user backup
target /mnt/first # a comment
volume ssh://nas:2222/pool
  snapshot_dir .snap
  SUBVOLUME .
  subvolume @data
    target /mnt/second
      target_preserve no
      target_preserve_min latest
    target send-receive nas2:/pool
      ssh_user no
      target_preserve_min all
volume /pool
  timestamp_format short
  snapshot_dir /snap
  subvolume a/b
    target /mnt/first
      target_preserve 7d
  subvolume /other/@
    preserve_hour_of_day 0
`
	own := filepath.Join(t.TempDir(), "btrbk.conf")
	if err := os.WriteFile(own, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/etc/btrbk/btrbk.conf.example", own} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := takeover.Btrbk(file, content)
		c := readImported(t, r, err)
		rows := btrbkRows(t, file)
		served := 0
		for _, j := range c.Jobs {
			if j.Auto { // btrbk does not list what it leaves out
				served += len(j.Spec.Destinations)
			}
		}
		if served != len(rows) || r.Left != 0 {
			t.Errorf("%s: %d destinations, %d lines left, want %d and none", file, served, r.Left, len(rows))
		}
		for _, row := range rows {
			source := row.place(t, "source", row["source_subvolume"])
			i := slices.IndexFunc(c.Jobs, func(j *config.Job) bool { return j.Spec.Source == source })
			if i < 0 {
				t.Errorf("%s: no job for %v", file, source)
				continue
			}
			wantAsBtrbk(t, c.Jobs[i], row)
		}
	}
}

// wantAsBtrbk compares a job with what btrbk does for one target.
func wantAsBtrbk(t testing.TB, j *config.Job, row btrbkRow) {
	t.Helper()
	s := &j.Spec
	if s.Compat != retention.Btrbk || s.Scheme == "" {
		t.Errorf("job %s: policies by the rule %q, names by %q", j.Name, s.Compat, s.Scheme)
	}
	target := row.place(t, "target", row["target_path"])
	if !slices.Contains(s.Destinations, target) {
		t.Errorf("job %s: destinations %v, want %v", j.Name, s.Destinations, target)
	}
	if s.Subvolume.Folder != row["snapshot_path"] || s.Prefix != row["snapshot_name"] {
		t.Errorf("job %s: folder %s, prefix %s, want %s, %s", j.Name, s.Subvolume.Folder, s.Prefix, row["snapshot_path"], row["snapshot_name"])
	}
	if want := row.policy(t, "snapshot_preserve"); shown(s.KeepSnapshots) != want {
		t.Errorf("job %s: keeps snapshots by %q, want %q", j.Name, s.KeepSnapshots, want)
	}
	kept := s.KeepBackups
	if to, ok := s.To[target.String()]; ok {
		kept = to.KeepBackups
	}
	if want := row.policy(t, "target_preserve"); shown(kept) != want {
		t.Errorf("job %s: keeps backups at %v by %q, want %q", j.Name, target, kept, want)
	}
	identity := regexp.MustCompile(`ssh -i '\\''(.*)'\\''`).FindStringSubmatch(row["source_rsh"] + row["target_rsh"])
	if identity != nil && !slices.Equal(s.Reach.Options, []string{"IdentityFile=" + identity[1]}) {
		t.Errorf("job %s: options of SSH are %q, want that for %s", j.Name, s.Reach.Options, identity[1])
	}
}
