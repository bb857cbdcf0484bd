package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/verify"
)

// damage is done to the backup of a source that holds file, other and d/inside.
type damage struct {
	name string
	do   func(r *copyRig, backup string)
	kind string // that verify tells; "" for none
	fast bool   // it is seen without reading contents
}

var damages = []damage{
	{"nothing", func(*copyRig, string) {}, "", true},
	{"a flipped bit", func(r *copyRig, backup string) { r.rot(backup, "file") }, "content", false},
	{"a missing file", func(r *copyRig, backup string) { btrfstest.Check(r, os.Remove(backup+"/file")) }, "missing", true},
	{"a missing directory", func(r *copyRig, backup string) { btrfstest.Check(r, os.RemoveAll(backup+"/d")) }, "missing", true},
	{"a further file", func(r *copyRig, backup string) {
		btrfstest.Check(r, os.WriteFile(backup+"/further", nil, 0o644))
	}, "unexpected", true},
	{"a mode", func(r *copyRig, backup string) { btrfstest.Check(r, os.Chmod(backup+"/file", 0o600)) }, "mode", true},
	{"an owner", func(r *copyRig, backup string) { btrfstest.Check(r, os.Chown(backup+"/file", 1, 1)) }, "owner", true},
	{"a second name", func(r *copyRig, backup string) {
		btrfstest.Check(r, os.Remove(backup+"/file"))
		btrfstest.Check(r, os.Link(backup+"/other", backup+"/file"))
	}, "links", true},
	{"a size", func(r *copyRig, backup string) { btrfstest.Check(r, os.Truncate(backup+"/file", 1)) }, "size", true},
}

func TestWhatIsDamagedInABackupIsTold(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		for _, file := range []string{"file", "other", "d/inside"} {
			r.write(file, file)
		}
		for _, d := range damages {
			r.write("of this generation", d.name)
			for _, file := range []string{"file", "d/inside"} { // new in each backup, so that no other has them
				r.write(file, d.name)
			}
			backup := r.saves()
			r.writable(backup, func() { d.do(r, backup) })
			latest := filepath.Join(r.destination, ".latest")
			for _, fast := range []bool{false, true} {
				args := []string{"verify", "--json", latest}
				if fast {
					args = append(args, "--fast")
				}
				want := d.kind != "" && (d.fast || !fast)
				status := map[bool]int{false: exitDone, true: exitDiffer}[want]
				if got := kindsIn(r, expect(r, status, invoke(r, nil, args...))); want != slices.Contains(got, d.kind) {
					r.Errorf("%s: verify %q tells %v", d.name, args, got)
				}
			}
		}
	})
}

// writable makes changes in a backup.
func (r *copyRig) writable(backup string, do func()) {
	r.Helper()
	if r.kind == "btrfs" {
		btrfstest.Run(r, "btrfs", "property", "set", "-ts", backup, "ro", "false")
		defer btrfstest.Run(r, "btrfs", "property", "set", "-ts", backup, "ro", "true")
	}
	do()
}

// kindsIn gives the kinds of differences that verify --json tells.
func kindsIn(t testing.TB, r result) (kinds []string) {
	t.Helper()
	var all []verify.Result
	btrfstest.Check(t, json.Unmarshal([]byte(r.stdout), &all))
	if len(all) != 1 {
		t.Fatalf("%d backups were verified:\n%s", len(all), r.stdout)
	}
	for _, d := range all[0].Differences {
		kinds = append(kinds, string(d.Kind))
	}
	return kinds
}

func TestTheExportedListIsOneThatSha256sumTakes(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(r *copyRig) {
		btrfstest.Populate(r, r.source, 1)
		r.everyByteInNames()
		backup := r.saves()
		if said, err := r.sha256sum(backup); err != nil {
			r.Errorf("sha256sum finds: %v\n%s", err, said)
		}
		r.rot(backup, "files/large")
		r.rot(backup, "names/new\nline")
		said, err := r.sha256sum(backup)
		if err == nil || !strings.Contains(said, "files/large: FAILED\n") || !strings.Contains(said, `names/new\nline: FAILED`+"\n") ||
			!strings.Contains(said, "WARNING: 2 computed checksums did NOT match") {
			r.Errorf("sha256sum finds: %v\n%s", err, said)
		}
	})
}

// sha256sum lets sha256sum check a backup by the list that is exported, which must hold every regular file.
func (r *copyRig) sha256sum(backup string) (said string, err error) {
	r.Helper()
	list := expect(r, exitDone, invoke(r, nil, "verify", "--export", backup)).stdout
	found := btrfstest.Run(r, "find", backup, "-type", "f", "-printf", "x")
	if lines := strings.Count(list, "\n"); lines != len(found) {
		r.Errorf("%d files are in the list, %d in the backup", lines, len(found))
	}
	check := exec.Command("sha256sum", "--check", "--quiet", "--strict")
	check.Dir, check.Stdin = backup, strings.NewReader(list)
	output, err := check.CombinedOutput()
	return string(output), err
}
