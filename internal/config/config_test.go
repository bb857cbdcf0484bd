package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// testOptions are some like those of the command line.
type testOptions struct{ *job.Spec }

func (o testOptions) Names() []string {
	return []string{"keep-backups", "num-backups", "ssh-sudo", "exclude", "include", "mount-point"}
}

func (o testOptions) Repeatable(name string) bool { return name == "exclude" || name == "include" }

func (o testOptions) Set(name, text string) (err error) {
	switch name {
	case "keep-backups":
		o.KeepBackups, err = retention.Parse(text)
	case "num-backups":
		o.KeepBackups.Last, err = strconv.Atoi(text)
	case "ssh-sudo":
		o.Reach.Sudo, err = strconv.ParseBool(text)
	case "mount-point":
		o.Copy.MountPoint = text
	default:
		o.Copy.Filters = append(o.Copy.Filters, job.Filter{Rule: name, Value: text})
	}
	return err
}

func (o testOptions) Complete() job.Complaints { return nil }

// write makes a file that is as private as one of root's.
func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t testing.TB, text string) (*Config, error) {
	t.Helper()
	return Read(Source{
		File:    write(t, text),
		Options: func(s *job.Spec) Options { *s = job.Default(); return testOptions{s} },
		Nearest: func(word string, names []string) string {
			i := slices.IndexFunc(names, func(name string) bool { return name[0] == word[0] && len(name) == len(word)+1 })
			return append(names, "")[(i+len(names)+1)%(len(names)+1)]
		},
	})
}

func mustRead(t testing.TB, text string) *Config {
	t.Helper()
	c, err := read(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantComplaints compares what is told, without the directory of the file.
func wantComplaints(t testing.TB, text string, want ...string) {
	t.Helper()
	_, err := read(t, text)
	var c hint.Complaints
	if !errors.As(err, &c) || len(c) != len(want) {
		t.Fatalf("complaints: %v, want %q", err, want)
	}
	for i, one := range c {
		if _, told, _ := strings.Cut(one.Error(), "config.toml:"); !strings.HasPrefix(told, want[i]) || hint.Of(one) == "" {
			t.Errorf("complaint: %s (%s), want %s", told, hint.Of(one), want[i])
		}
	}
}

func TestAJobIsWhatItsTableAndTheDefaultsSay(t *testing.T) {
	c := mustRead(t, `
[default]
keep-backups = "14d"
exclude = ["*.bak"]
every = "six-hourly"

[interval]
six-hourly = "6h"

[job.home]
source = "/home"
destination = ["/mnt/usb/home", "root@nas:/backup/%h"]
include = "keep.o"
exclude = ["*.o", "*.tmp"]
ssh-sudo = true
max-age = "2d"
auto = false
tags = ["daily"]
metered = "skip"
[job.home.to."/mnt/usb/home"]
keep-backups = "*w"
max-age = "26h"

[job.etc]
source = "/etc"
destination = "/mnt/usb/etc"
keep-backups = "last=7"
`)
	host, err := os.Hostname()
	if err != nil || len(c.Jobs) != 2 {
		t.Fatal(c, err)
	}
	home, etc := c.Jobs[0], c.Job("etc")
	s := home.Spec
	if fmt.Sprint(s.Source, s.Destinations) != "/home [/mnt/usb/home ssh://root@nas/backup/"+host+"]" || !s.Reach.Sudo {
		t.Errorf("home: %+v", s)
	}
	if fmt.Sprint(s.Copy.Filters) != "[{include keep.o} {exclude *.o} {exclude *.tmp}]" {
		t.Errorf("the filters are not in their order: %v", s.Copy.Filters)
	}
	if s.KeepBackups.String() != "14d" || s.To["/mnt/usb/home"].KeepBackups.String() != "*w" {
		t.Errorf("policies: %v, %v", s.KeepBackups, s.To)
	}
	if home.Every.Length != 6*time.Hour || home.MaxAge != 48*time.Hour || home.MaxAgeAt["/mnt/usb/home"] != 26*time.Hour ||
		home.Auto || !home.OnBattery || home.Metered || !slices.Equal(home.Tags, []string{"daily"}) {
		t.Errorf("home: %+v", home)
	}
	if etc.Spec.KeepBackups.String() != "last=7" || !etc.Auto || etc.Spec.Reach.Sudo ||
		len(etc.Spec.Copy.Filters) != 1 {
		t.Errorf("etc: %+v", etc.Spec)
	}
}

func TestHooksAndNoticesAreRead(t *testing.T) {
	c := mustRead(t, `
[[hook]]
name = "light"
before = ["true", "-x"]
[notify]
on = ["failure"]
command = ["true"]
[job.db]
source = "/srv"
[[job.db.hook]]
before = ["true"]
after = ["false"]
around = "snapshot"
timeout = "2m"
[[job.db.hook]]
after = ["true"]
critical = true
`)
	if len(c.Hooks) != 1 || c.Hooks[0].Name != "light" || len(c.Hooks[0].Before) != 2 || c.Notify.On[0] != "failure" {
		t.Errorf("around all: %+v, %+v", c.Hooks, c.Notify)
	}
	hooks := c.Jobs[0].Hooks
	if len(hooks) != 2 || hooks[0].Around != "snapshot" || hooks[0].Timeout != 2*time.Minute || hooks[0].After[0] != "false" ||
		!hooks[1].Critical || len(hooks[1].Before) != 0 {
		t.Errorf("hooks: %+v", hooks)
	}
	wantComplaints(t, `
[[hook]]
before = ["true"]
around = "snapshot"
[notify]
on = ["faliure"]
comand = ["true"]
[job.db]
source = "/srv"
[[job.db.hook]]
before = ["no-such-program"]
critical = "yes"
timeot = "2m"
[job.db.hook.x]
`,
		`2: hook 1: around = "snapshot" is of a job`,
		`7: there is no key "comand"`,
		`6: on "faliure" is unknown`,
		`5: [notify] says nobody who is to be told`,
		`12: critical needs true or false`,
		`13: there is no key "timeot"`,
		`14: there is no key "x"`,
		`11: before "no-such-program" is not in PATH`,
	)
}

func TestAJobCanBeLikeAnother(t *testing.T) {
	c := mustRead(t, `
[default]
num-backups = 1
[job.home]
source = "/home"
destination = "/mnt/home"
num-backups = 2
[job.home.to."/mnt/home"]
keep-backups = "3d"
mount-point = "/mnt"
[job.srv]
like = "home"
source = "/srv"
[job.srv.to."/mnt/home"]
keep-backups = "4d"
`)
	srv := c.Job("srv").Spec
	if srv.KeepBackups.Last != 2 || fmt.Sprint(srv.Source, srv.Destinations) != "/srv [/mnt/home]" {
		t.Errorf("srv: %+v", srv)
	}
	if to := srv.To["/mnt/home"]; to.KeepBackups.String() != "4d" || to.MountPoint != "/mnt" {
		t.Errorf("tables do not merge: %+v", to)
	}
}

func TestEachValueIsToldWithItsLine(t *testing.T) {
	c := mustRead(t, "[default]\nssh-sudo = true\n\n[job.home]\nsource = \"/home\"\nexclude = [\n  \"a\",\n  \"b c\"]\nto.\"/mnt\".num-backups = 3\ndestination = '/mnt'\n")
	var told []string
	for _, l := range c.Jobs[0].Lines() {
		told = append(told, fmt.Sprintf("%s = %s %d", l.Key, l.Value, l.Line))
	}
	want := `source = "/home" 5; exclude = ["a", "b c"] 6; to."/mnt".num-backups = 3 9; destination = "/mnt" 10; ssh-sudo = true 2`
	if got := strings.Join(told, "; "); got != want {
		t.Errorf("lines: %s\nwant:  %s", got, want)
	}
}

func TestAllThatIsWrongIsToldAtOnceWithItsLine(t *testing.T) {
	wantComplaints(t, `
keep = 7
[default]
num-backups = "many"
[interval]
often = "1s"
[job.home]
sourc = "/home"
destination = ["mnt", "/mnt/usb", "nas:backup"]
every = "often"
max-age = "soon"
auto = "yes"
ssh-sudo = [true]
tags = [1]
metered = "no"
exclude-lists = ["dev"]
[job.home.to."/mnt/other"]
num-backups = 1
[job.home.to."/mnt/usb"]
exclude = "x"
[job.etc]
like = "hom"
source = { path = "/etc" }
destination = "/mnt/etc"
[job.etc.keep]
`,
		`2: there is no key "keep"`,
		`8: there is no key "sourc"`,
		`9: destination "mnt" is no absolute path`,
		`9: destination nas:backup: the path of another machine`,
		`10: every interval often: "1s" is shorter`,
		`11: max-age needs a time, not "soon"`,
		`12: auto needs true or false, not "yes"`,
		`13: ssh-sudo takes no list`,
		`14: tags needs texts in quotes, not 1`,
		`15: metered = "no" is unknown`,
		`16: exclude-lists: there is no [exclude.dev]`,
		`4: strconv`,
		`7: job home: its source is missing`,
		`17: to."/mnt/other": job home has no such destination`,
		`20: there is no key "exclude"`,
		`22: like = "hom": there is no such job`,
		`23: source needs a text in quotes`,
		`25: there is no key "keep"`,
	)
}

func TestWhatTheSpecComplainsOfHasTheLineOfItsKey(t *testing.T) {
	wantComplaints(t, "[default]\nnum-backups = -1\n[job.home]\nsource = \"shell://cat\"\n",
		"2: num-backups -1 is no number", "3: shell://cat: a command cannot be a source")
}

func TestFilesOfTheMachineHaveAbsolutePaths(t *testing.T) {
	const job = "[job.home]\nsource = '/home'\n"
	wantComplaints(t, "log = 'logs'\ntextfile = ''\n"+job, `1: log "logs" is no absolute path`, `2: textfile "" is no absolute path`)
	wantComplaints(t, "log = 1\ntextfile = ['/x']\n"+job, "1: log needs a text", "2: textfile needs a text")
	if c := mustRead(t, "log = '/l'\ntextfile = '/t'\n"+job); c.Log != "/l" || c.Textfile != "/t" {
		t.Errorf("log %q, textfile %q", c.Log, c.Textfile)
	}
}

func TestANameOfAJobCanBeThatOfAFile(t *testing.T) {
	wantComplaints(t, "[job.\"a/b\"]\nsource = '/a'\n[job.\"..\"]\nsource = '/a'\n", `1: "a/b" is no name`, `3: ".." is no name`)
}

func TestWhatStandsTwiceIsWrong(t *testing.T) {
	wantComplaints(t, "[job.home]\nsource = '/a'\nsource = '/b'\n", "3: ")
	wantComplaints(t, "[job.home]\nsource = '/a'\n[job.home]\nsource = '/b'\n", "3: ")
	wantComplaints(t, "[job.home]\nsource = 5\x00\n", "2: ")
}

func TestFilesAddToEachOtherButReplaceNothing(t *testing.T) {
	dir := t.TempDir()
	r := &reader{root: newTable(Origin{}), config: &Config{}}
	for i, text := range []string{"[default]\nauto = true\n[job.a]\nsource='/a'\n", "[default]\ntags=['x']\n[job.b]\nsource='/b'\n",
		"[job.a]\nauto=false\n[default]\nauto = false\n"} {
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.load(file)
	}
	jobs := r.root.values["job"].any.(*table)
	if strings.Join(jobs.keys, " ") != "a b" || len(r.root.values["default"].any.(*table).keys) != 2 {
		t.Errorf("tables: %v", r.root.values)
	}
	if got := r.complaints.Error(); len(r.complaints) != 2 || !strings.Contains(got, "/2:1: a stands at "+dir+"/0:3 already") ||
		!strings.Contains(got, "/2:4: auto stands at "+dir+"/0:2 already") {
		t.Errorf("complaints: %s", got)
	}
}

func TestAFileThatOthersCanChangeIsNotRead(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"the file":      func(file string) error { return os.Chmod(file, 0o622) },
		"its directory": func(file string) error { return os.Chmod(filepath.Dir(file), 0o777) },
		"its owner":     func(file string) error { return os.Chown(file, 1234, 0) },
		"a link to one": func(file string) error {
			real := filepath.Join(t.TempDir(), "real")
			return errors.Join(os.Rename(file, real), os.Chmod(real, 0o666), os.Symlink(real, file))
		},
	} {
		file := write(t, "[job.a]\nsource='/a'\n")
		if _, err := readPrivate(file); err != nil {
			t.Fatal(err)
		}
		if err := change(file); errors.Is(err, os.ErrPermission) {
			continue // only root can give a file away
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := readPrivate(file); err == nil || !strings.Contains(err.Error(), "not read, since") || hint.Of(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
