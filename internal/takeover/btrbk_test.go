package takeover

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"

	"github.com/pelletier/go-toml/v2"
)

// mustBtrbk takes over a file, whose result must be TOML.
func mustBtrbk(t testing.TB, text string) Result {
	t.Helper()
	r, err := Btrbk("btrbk.conf", []byte(text))
	return mustBeTOML(t, r, err)
}

func mustBeTOML(t testing.TB, r Result, err error) Result {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var read map[string]any
	if err := toml.Unmarshal([]byte(r.Text), &read); err != nil {
		t.Fatalf("%v in\n%s", err, r.Text)
	}
	if n := strings.Count(r.Text, "# not taken over: "); n != r.Left {
		t.Errorf("%d remarks, but %d lines are said to be left", n, r.Left)
	}
	return r
}

// wantLines fails unless the text has these lines, in this order.
func wantLines(t testing.TB, text string, want ...string) {
	t.Helper()
	rest := strings.Split(text, "\n")
	for _, line := range want {
		i := slices.Index(rest, line)
		if i < 0 {
			t.Errorf("there is no line %s (behind those before it) in\n%s", line, text)
			return
		}
		rest = rest[i+1:]
	}
}

// A btrbkCase is an option, and what becomes of it; see testdata/btrbk-options.
type btrbkCase struct{ option, value, want string }

func btrbkCases(t testing.TB) (all []btrbkCase) {
	t.Helper()
	content, err := os.ReadFile("testdata/btrbk-options")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(line, "#") {
			setting, want, _ := strings.Cut(line, "|")
			option, value, _ := strings.Cut(strings.TrimSpace(setting), " ")
			all = append(all, btrbkCase{option, value, strings.TrimSpace(want)})
		}
	}
	return all
}

func TestEachOptionOfBtrbkIsTakenOverOrNamed(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range btrbkCases(t) {
		seen[c.option] = true
		t.Run(c.option+" "+c.value, func(t *testing.T) {
			inSubvolume := map[string]string{"snapshot_name": c.option + " " + c.value}[c.option]
			global := ""
			if inSubvolume == "" {
				global = c.option + " " + c.value
			}
			// what is set again by another line of the same section does not count
			defaults := ""
			for _, d := range [][2]string{{"snapshot_preserve_min", "2d"}, {"snapshot_preserve", "14d"}, {"target_preserve_min", "no"},
				{"target_preserve", "20d 10w *m"}} {
				if d[0] != c.option {
					defaults += d[0] + " " + d[1] + "\n"
				}
			}
			r := mustBtrbk(t, defaults+"# the option\n"+global+"\nvolume /mnt/pool\nsubvolume home\n"+inSubvolume+"\ntarget nas:/backup/home\n")
			at := fmt.Sprintf("line %d %q", strings.Count(defaults, "\n")+2, global)
			if inSubvolume != "" {
				at = fmt.Sprintf("line 9 %q", inSubvolume)
			}
			reason, isLeft := strings.CutPrefix(c.want, "!")
			i := strings.Index(r.Text, at)
			if i < 0 {
				t.Fatalf("%s is nowhere in\n%s", at, r.Text)
			}
			line, rest, _ := strings.Cut(r.Text[i:], "\n")
			before := r.Text[strings.LastIndex(r.Text[:i], "\n")+1 : i]
			switch {
			case isLeft && (before != "# not taken over: " || !strings.Contains(line, reason) || r.Left != 1):
				t.Errorf("%d left: %s%s", r.Left, before, line)
			case c.want == "" && (!strings.HasPrefix(before, "# not needed: ") && before != "# " || r.Left != 0):
				t.Errorf("%d left: %s%s", r.Left, before, line)
			case c.want != "" && !isLeft && (before != "# " || r.Left != 0):
				t.Errorf("%d left: %s%s", r.Left, before, line)
			case c.want != "" && !isLeft:
				wantLines(t, rest, c.want)
			}
		})
	}
	if known := slices.Sorted(maps.Keys(btrbkOptions)); !slices.Equal(known, slices.Sorted(maps.Keys(seen))) {
		t.Errorf("the options are %v", known)
	}
}

const twoPools = `snapshot_preserve_min 2d
target_preserve 20d
target_preserve_min no
ssh_user backup
target "/mnt/every one" # in quotes
volume ssh://nas:2222/pool
  group servers
  snapshot_dir .snap
  SUBVOLUME .
  subvolume @data
    group db,weekly
    target /mnt/second
      target_preserve no
      target_preserve_min latest
      rate_limit 2m
    target send-receive [2001:db8::7]:/pool
      ssh_user no
volume /pool
  timestamp_format short
  snapshot_dir /snap
  subvolume a/b
    target /mnt/every one
      target_preserve 7d
  subvolume /other/@
    timestamp_format long-iso
    target_preserve 3w
    noauto
`

func TestOptionsCountInTheSectionsBelow(t *testing.T) {
	r := mustBtrbk(t, twoPools)
	wantLines(t, r.Text, "[job.pool]", `source = "ssh://backup@nas:2222/pool"`, `destination = ["/mnt/every one"]`, `snapshot-prefix = "pool"`,
		`snapshot-folder = "/pool/.snap"`, `tags = ["servers"]`, `keep-snapshots = "within=2d"`, `keep-backups = "20d"`,
		"[job.data]", `source = "ssh://backup@nas:2222/pool/@data"`, `destination = ["/mnt/every one", "/mnt/second", "[2001:db8::7]:/pool"]`,
		`snapshot-prefix = "@data"`, `name = "btrbk-long"`, `tags = ["db", "weekly", "servers"]`,
		`[job.data.to."/mnt/every one"]`, `keep-backups = "20d"`,
		`[job.data.to."/mnt/second"]`, `keep-backups = "last=1"`, `rate-limit = "2M"`,
		`[job.data.to."[2001:db8::7]:/pool"]`, `keep-backups = "20d"`,
		"[job.b]", `source = "/pool/a/b"`, `destination = ["/mnt/every one"]`, `snapshot-prefix = "b"`, `name = "btrbk-short"`,
		`snapshot-folder = "/snap"`, `keep-backups = "7d"`,
		"[job.root]", `source = "/other/@"`, `destination = ["/mnt/every one"]`, `snapshot-prefix = "@"`, `name = "btrbk-long-iso"`, "auto = false",
		`keep-backups = "3w"`)
	if r.Left != 0 {
		t.Errorf("%d left", r.Left)
	}
}

func TestWithoutALineBtrbkKeepsEverything(t *testing.T) {
	r := mustBtrbk(t, "target_preserve 20d\nsnapshot_dir /snap\ntarget /mnt/disk\nsubvolume /home\n")
	wantLines(t, r.Text,
		`# NOTHING IS EVER DELETED: snapshot_preserve_min is "all", as always when btrbk.conf does not say otherwise; keep-snapshots = "20d 10w *m" would delete`,
		`# line 1 "target_preserve 20d"`,
		`# NOTHING IS EVER DELETED: target_preserve_min is "all", as always when btrbk.conf does not say otherwise; keep-backups = "20d 10w *m" would delete`)
	if strings.Contains(r.Text, "\nkeep-") {
		t.Errorf("something is deleted:\n%s", r.Text)
	}
}

func TestWhatOneJobCannotHaveTwiceIsNamed(t *testing.T) {
	r := mustBtrbk(t, `snapshot_dir /snap
subvolume /home
  target nas:/backup
    ssh_identity /a
    stream_compress zstd
  target off.example:/backup
    ssh_identity /b
    noauto yes
    group offsite
  target raw /mnt/raw
`)
	wantLines(t, r.Text, `destination = ["root@nas:/backup", "root@off.example:/backup"]`, `ssh-opt = ["IdentityFile=/a"]`, `compress = "zstd"`)
	for _, line := range []string{`line 7 "ssh_identity /b" (ssh-opt is ["IdentityFile=/b"] here, but one of job home`,
		`line 6 "target off.example:/backup" (compress is "" here`, `line 8 "noauto yes" (a run serves all destinations`,
		`line 9 "group offsite" (a run serves`, `line 10 "target raw /mnt/raw" (there are no raw targets`} {
		if !strings.Contains(r.Text, "\n# not taken over: "+line) {
			t.Errorf("not in the text: %s\n%s", line, r.Text)
		}
	}
	if r.Left != 5 {
		t.Errorf("%d left", r.Left)
	}
}

func TestWhatNoJobUsesIsNamed(t *testing.T) {
	r := mustBtrbk(t, `snapshot_dir /a
snapshot_dir /b
volume /empty
  target /mnt/nothing
volume /pool
  subvolume home
`)
	for _, line := range []string{`line 1 "snapshot_dir /a"`, `line 3 "volume /empty"`, `line 4 "target /mnt/nothing"`} {
		if !strings.Contains(r.Text, "\n# not needed: "+line) {
			t.Errorf("not in the text: %s\n%s", line, r.Text)
		}
	}
	wantLines(t, r.Text, `snapshot-folder = "/b"`, `compat = "btrbk"`)
}

func TestAllThatBtrbkWouldRefuseIsToldAtOnce(t *testing.T) {
	_, err := Btrbk("/etc/btrbk.conf", []byte(`snapshot_preserve 14x
no_such_option 1
volume relative/path
  transaction_log /log
  subvolume ../up
    target tape /dev/st0
    target nas
    timestamp_format iso
    target_preserve 7d 8d
=
`+"caf\xe9\n"))
	var want = []string{`:1: snapshot_preserve cannot be "14x"`, `:2: btrbk has no option no_such_option`, `:3: "relative/path" cannot be a volume`,
		`:4: transaction_log cannot stand in a volume section`, `:5: "../up" cannot be a subvolume`, `:6: there is no target type "tape"`,
		`:7: "nas" cannot be a target`, `:8: timestamp_format cannot stand in a target section`, `:10: "=" is no line of a btrbk.conf`,
		`:11: this is no text in UTF-8`}
	wantComplaints(t, err, "/etc/btrbk.conf", want...)
	for text, want := range map[string]string{
		"":                                  ":1: there is no subvolume that could be a source",
		"volume /p\n":                       ":1: there is no subvolume that could be a source",
		"subvolume /home\n":                 `:1: subvolume "/home" has neither snapshot_dir nor volume`,
		"snapshot_dir s\nsubvolume /home\n": `:1: snapshot_dir is relative, but subvolume "/home" has no volume`,
		"target_preserve 7d 8d\ntarget_preserve_min no\nvolume /p\nsubvolume s\ntarget /t\n": `:1: target_preserve: "8d" is a second term of its kind`,
	} {
		_, err := Btrbk("f", []byte(text))
		wantComplaints(t, err, "f", want)
	}
}

// wantComplaints fails unless there are these complaints about a file, each with a hint.
func wantComplaints(t testing.TB, err error, file string, want ...string) {
	t.Helper()
	var all job.Complaints
	if !errors.As(err, &all) {
		t.Fatalf("error: %v", err)
	}
	var lines []string
	for _, c := range all {
		if lines = append(lines, c.Error()); hint.Of(c) == "" {
			t.Errorf("%v has no hint", c)
		}
	}
	for i, line := range want {
		want[i] = file + line
	}
	slices.Sort(lines)
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("complaints:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestPatternsStandForTheSubvolumesThatMatchNow(t *testing.T) {
	const size = 120 << 20
	pool := btrfstest.New(t, size).Dir
	for _, name := range []string{"vm-a", "vm-b", "vm-[c]", "other"} {
		btrfstest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(pool, name))
	}
	btrfstest.Run(t, "btrfs", "-q", "subvolume", "snapshot", "-r", filepath.Join(pool, "vm-a"), filepath.Join(pool, "vm-snapshot"))
	btrfstest.Run(t, "mkdir", filepath.Join(pool, "vm-directory"))
	r := mustBtrbk(t, "volume "+pool+"\nsubvolume vm-*\nsubvolume vm-[*\nsubvolume none*\nvolume nas:/pool\nsubvolume *\n")
	var sources []string
	for line := range strings.Lines(r.Text) {
		if source, ok := strings.CutPrefix(line, "source = "); ok {
			sources = append(sources, filepath.Base(strings.Trim(source, "\"\n")))
		}
	}
	if want := []string{"vm-[c]", "vm-a", "vm-b", "vm-[c]"}; !slices.Equal(sources, want) {
		t.Errorf("sources %q, want %q", sources, want)
	}
	for _, line := range []string{`line 2 "subvolume vm-*" (there is a job for each of the 3 that match now, and none for later ones)`,
		`line 4 "subvolume none*" (no subvolume matches it on this machine)`, `line 6 "subvolume *" (subvolumes of another machine`} {
		if !strings.Contains(r.Text, "\n# not taken over: "+line) {
			t.Errorf("not in the text: %s\n%s", line, r.Text)
		}
	}
	_, err := Btrbk("f", []byte("volume /pool\nsubvolume vm-*\nsnapshot_name x\n"))
	wantComplaints(t, err, "f", `:3: snapshot_name cannot stand in a section with a pattern`)
}
