package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/config"
	"github.com/btrfs-backup/btrfs-backup/internal/disk"
	"github.com/btrfs-backup/btrfs-backup/internal/due"
	"github.com/btrfs-backup/btrfs-backup/internal/hook"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/takeover"
	"github.com/btrfs-backup/btrfs-backup/retention"
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

func TestTheImportOfEachOptionOfBtrbkIsAConfiguration(t *testing.T) {
	content, err := os.ReadFile("../../internal/takeover/testdata/btrbk-options")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		option, _, _ := strings.Cut(line, "|")
		if strings.HasPrefix(line, "#") {
			continue
		}
		t.Run(option, func(t *testing.T) {
			global, inSubvolume := option, ""
			if strings.HasPrefix(option, "snapshot_name ") {
				global, inSubvolume = "", option
			}
			r, err := takeover.Btrbk("btrbk.conf", []byte(global+"\nvolume /mnt/pool\nsubvolume home\n"+inSubvolume+"\ntarget nas:/backup/home\n"))
			if c := readImported(t, r, err); len(c.Jobs) != 1 {
				t.Errorf("%d jobs in\n%s", len(c.Jobs), r.Text)
			}
		})
	}
}

func TestAnImportedPoolOfBtrbkGoesOn(t *testing.T) {
	t.Parallel()
	p := newBtrbkPool(t)
	p.configure("snapshot_preserve_min 2d\ntarget_preserve_min no\ntarget_preserve 4d")
	for day := 1; day <= 5; day++ {
		p.march(day)
	}
	want(t, "snapshots of btrbk", names(t, p.folder), ofMarch(3, 4, 5)...)
	want(t, "backups of btrbk", names(t, p.destination), ofMarch(1, 2, 3, 4, 5)...)
	file := filepath.Join(t.TempDir(), "btrbk.toml")
	expect(t, exitDone, invoke(t, march(6), "import", "btrbk", "-o", file, p.conf))

	write(t, filepath.Join(p.home, "file"), "of day 6")
	r := expect(t, exitDone, invoke(t, march(6), "run", "--config", file, "--json"), `"job": "home"`)
	var did struct {
		Jobs []struct {
			Result printed `json:"result"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &did); err != nil || len(did.Jobs) != 1 {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	taken := "home.20260306T1200"
	want(t, "transfers", did.Jobs[0].Result.to(t, p.destination).transfers(), taken+"<"+ofMarch(5)[0])
	want(t, "snapshots", names(t, p.folder), append(ofMarch(4, 5), taken)...)
	want(t, "backups", names(t, p.destination), append(ofMarch(2, 3, 4, 5), taken)...)
	btrfstest.Equal(t, filepath.Join(p.folder, taken), filepath.Join(p.destination, taken), btrfstest.RootTime)

	expect(t, exitDone, invoke(t, march(6), "run", "--config", file, "--json"), `"skipped": "not due until 2026-03-07 00:00"`)
	expect(t, exitDone, invoke(t, march(7), "run", "--config", file))
	want(t, "backups", names(t, p.destination), append(ofMarch(3, 4, 5), taken, "home.20260307T1200")...)
}

func TestAnImportedCommandLineOfRsyncSystemBackupMeansTheSame(t *testing.T) {
	r, err := takeover.SystemBackup{Args: []string{"/mnt/disk/system/latest"}, Mount: "/mnt/disk", Crypto: "usb", Exclude: []string{"*.o"}}.TakeOver()
	c := readImported(t, r, err)
	s := c.Job("system").Spec
	if s.Source != (job.Local{Path: "/"}) || !slices.Equal(s.Destinations, []job.Place{job.Local{Path: "/mnt/disk/system"}}) || s.Engine != job.Rsync {
		t.Errorf("%s: %v to %v", s.Engine, s.Source, s.Destinations)
	}
	if got := s.KeepBackups.String(); got != "24h 7d 4w *m" {
		t.Errorf("keeps by %s", got)
	}
	wantFilters(t, s, "exclude *.o", "exclude /home/*/.cache/", "exclude /var/cache/", "exclude /var/tmp/")
	if want := (disk.Disk{Name: "disk", Mount: "/mnt/disk", LUKS: "usb", WhenAbsent: disk.Skip}); !slices.Equal(c.Disks, []disk.Disk{want}) {
		t.Errorf("disks %+v, want %+v", c.Disks, want)
	}
}

func wantFilters(t testing.TB, s job.Spec, want ...string) {
	t.Helper()
	var got []string
	for _, f := range s.Copy.Filters {
		got = append(got, f.Rule+" "+f.Value)
	}
	if !slices.Equal(got, want) {
		t.Errorf("filters %q, want %q", got, want)
	}
}

func TestAnImportedConfigurationOfPiServerBackupMeansTheSame(t *testing.T) {
	r, err := takeover.PiServer("f", []byte(`destination = "/mnt/backup"
[[sources]]
type = "rsync"
name = "data"
path = "/srv/data"
[[sources]]
type = "rsync"
path = "/etc"
[[backup_hooks]]
pre = ["mount", "/mnt/backup"]
post = ["umount", "/mnt/backup"]
critical = true
[[snapshot_hooks]]
pre = "systemctl stop mariadb"
post = "systemctl start mariadb"
`))
	j := readImported(t, r, err).Job("piserver")
	if want := []job.Member{{Name: "data", Source: job.Local{Path: "/srv/data"}}, {Name: "etc", Source: job.Local{Path: "/etc"}}}; !slices.Equal(j.Spec.Members, want) {
		t.Errorf("members %v, want %v", j.Spec.Members, want)
	}
	if !j.Spec.CopyInside || j.Spec.KeepBackups != (retention.Policy{}) || !slices.Equal(j.Spec.Destinations, []job.Place{job.Local{Path: "/mnt/backup"}}) {
		t.Errorf("%+v", j.Spec)
	}
	want := []hook.Hook{
		{Name: "run-1", Before: []string{"mount", "/mnt/backup"}, After: []string{"umount", "/mnt/backup"}, Around: "run", Critical: true},
		{Name: "snapshot-1", Before: []string{"sh", "-c", "systemctl stop mariadb"}, After: []string{"sh", "-c", "systemctl start mariadb"}, Around: "snapshot"},
	}
	if !reflect.DeepEqual(j.Hooks, want) {
		t.Errorf("hooks %+v, want %+v", j.Hooks, want)
	}
}

func TestAnImportedConfigurationOfVeryHungryPiMeansTheSame(t *testing.T) {
	r, err := takeover.VeryHungryPi("f", []byte(`app_cfg:
  exclude_lib: {standard: [lost+found/*, .cache], more: [some dir]}
  intervals: {hourly: 3600, six-hourly: 21600, daily: 86400, monthly: 2592000}
jobs_cfg:
- source_ip: 192.168.178.20
  rsync_src: /srv/photos/
  rsync_dest: /mnt/photos/
  rsync_options: -aAHSvX --delete --bwlimit=500
  exclude_lists: [more, standard]
  excludes: [downloads]
  snapshots: {hourly: 0, six-hourly: 4, daily: 7, monthly: 6}
- source_ip: 127.0.0.1
  rsync_src: /srv/www/
  rsync_dest: /mnt/www/
  rsync_options: -a -x -z
  snapshots: {daily: 7}
`))
	c := readImported(t, r, err)
	j := c.Job("photos")
	s := j.Spec
	if s.Source != (job.Local{Path: "/srv/photos"}) || !slices.Equal(s.Destinations, []job.Place{job.Local{Path: "/mnt/photos"}}) || s.Engine != job.Rsync {
		t.Errorf("%s: %v to %v", s.Engine, s.Source, s.Destinations)
	}
	wantFilters(t, s, "exclude downloads", "exclude some dir", "exclude lost+found/*", "exclude .cache")
	if got := s.KeepBackups.String(); got != "last=4 7d 6m" || j.Every.Length != 6*time.Hour || j.Online != "ping:192.168.178.20" {
		t.Errorf("keeps by %s, runs every %v while %s", got, j.Every, j.Online)
	}
	if s.Copy.Marker != ".backup_valid" || !s.Copy.MultiFS || s.RateLimit != 500<<10 || s.Copy.Options != "" {
		t.Errorf("copies as %+v at %v", s.Copy, s.RateLimit)
	}
	daily, err := due.Parse("daily", nil)
	if err != nil {
		t.Fatal(err)
	}
	s = c.Job("www").Spec
	if s.Copy.MultiFS || !strings.HasSuffix(s.Copy.Options, " --one-file-system -z") || c.Job("www").Every != daily {
		t.Errorf("copies as %+v", s.Copy)
	}
}

func TestAnImportedJobOfVeryHungryPiGoesOnBesideItsSnapshots(t *testing.T) {
	t.Parallel()
	btrfstest.RequireRoot(t)
	dir := t.TempDir()
	source, destination := filepath.Join(dir, "photos"), filepath.Join(dir, "backups")
	for _, d := range []string{source, filepath.Join(destination, "hourly.0"), filepath.Join(destination, "backup.latest")} {
		btrfstest.Check(t, os.MkdirAll(d, 0o755))
	}
	write(t, filepath.Join(source, ".backup_valid"), "")
	write(t, filepath.Join(source, "photo"), "of a cat")
	write(t, filepath.Join(source, "skipped"), "")
	old := filepath.Join(destination, "hourly.0", "photo")
	btrfstest.Run(t, "cp", "-a", filepath.Join(source, "photo"), old)
	conf, file := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "vhpi.toml")
	write(t, conf, "app_cfg: {exclude_lib: {standard: [skipped]}, intervals: {hourly: 3600}}\njobs_cfg:\n- source_ip: 127.0.0.1\n  rsync_src: "+source+
		"/\n  rsync_dest: "+destination+"\n  rsync_options: -aAHSvX --delete\n  exclude_lists: [standard]\n  excludes: []\n  snapshots: {hourly: 2}\n")
	expect(t, exitDone, invoke(t, march(1), "import", "vhpi", "-o", file, conf))
	expect(t, exitDone, invoke(t, march(1), "index", destination))
	for day := 1; day <= 3; day++ {
		expect(t, exitDone, invoke(t, march(day), "run", "--config", file))
	}
	want(t, "destination", names(t, destination), "20260302-120000", "20260303-120000", "backup.latest", "hourly.0")
	want(t, "backup", names(t, filepath.Join(destination, "20260303-120000")), "photo")
	one, err := os.Stat(old)
	btrfstest.Check(t, err)
	other, err := os.Stat(filepath.Join(destination, "20260303-120000", "photo"))
	btrfstest.Check(t, err)
	if !os.SameFile(one, other) {
		t.Error("a backup shares no space with the snapshots of Very Hungry Pi")
	}

	btrfstest.Check(t, os.Remove(filepath.Join(source, ".backup_valid")))
	r := invoke(t, march(4), "run", "--config", file)
	if r.status == exitDone || len(names(t, destination)) != 4 {
		t.Errorf("status %d without the marker: %s", r.status, r.stderr)
	}
}
