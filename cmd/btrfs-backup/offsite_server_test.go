package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
)

// impatient lets a run give a server up soon.
var impatient = []string{testOnlyWait + "=1500ms"}

// isPart matches the requests that store parts of streams.
func isPart(q *http.Request) bool {
	return objecttest.Kind(q) == "PUT" && strings.Contains(q.URL.Path, "/data.")
}

// What goes wrong when some parts are stored ends the transfer. The other destination is served, and the next run goes on there.
func TestAServerThatFailsInTheMiddleOfARunKeepsWhatItGot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault objecttest.Fault
		says  string
	}{
		"down":                {objecttest.Fault{Cut: true}, "storing"},
		"silent":              {objecttest.Fault{Hang: true}, "storing"},
		"errors of its own":   {objecttest.Fault{Status: 500, Code: "InternalError"}, "made up by the test"},
		"busy":                {objecttest.Fault{Status: 503, Code: "SlowDown"}, "made up by the test"},
		"forbids":             {objecttest.Fault{Status: 403, Code: "AccessDenied"}, "s3:PutObject"},
		"the clock went away": {objecttest.Fault{Status: 403, Code: "RequestTimeTooSkewed"}, "clock"},
		"the key was changed": {objecttest.Fault{Status: 403, Code: "InvalidAccessKeyId"}, "key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newServedRig(t)
			r.saves()
			r.write("data", 5*smallPart)
			other := filepath.Join(btrfstest.New(t, rigSize).Dir, "backups")
			f := test.fault
			f.Match = func(q *http.Request) bool {
				return isPart(q) || q.Method == http.MethodDelete || q.Method == http.MethodPost
			}
			f.Skip = 3
			r.server.Fail(f)
			cmd := r.command(impatient)
			cmd.Args = append(cmd.Args, other)
			failed := expect(t, exitPartly, invokeCmd(t, cmd), test.says, "error: sending ", "btrfs-backup: hint: ")
			tellsOnce(t, failed)
			r.server.Heal()
			if got := r.held(); len(got) != 1 {
				t.Fatalf("the store holds %v", got)
			}
			if newest := r.snapshots()[1]; !exists(filepath.Join(other, newest)) {
				t.Error("the other destination was not served")
			}
			before := r.objects()
			expect(t, exitDone, r.run(nil, "--no-snapshot"), "objects of it are there already")
			if again := sentAgain(before, r.objects()); len(again) > 0 {
				t.Errorf("stored before, and not used: %v", again)
			}
			r.isSaved()
		})
	}
}

func TestAServerThatCannotBeUsedAtAllIsToldWithAHint(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	r.saves()
	refused := func(says ...string) {
		t.Helper()
		before := r.objects()
		failed := expect(t, exitFailed, r.run(impatient, "--no-snapshot"), append(says, "btrfs-backup: hint: ")...)
		tellsOnce(t, failed)
		if len(r.objects()) != len(before) {
			t.Error("something was stored")
		}
	}
	place, access := r.place, r.access
	r.place = r.server.Place("elsewhere/pc")
	refused("elsewhere", "bucket")
	r.place, r.access = place, objecttest.Credentials(t, objecttest.Key, "wrong")
	refused("secret")
	r.access = objecttest.Credentials(t, objecttest.OtherKey, objecttest.OtherSecret)
	refused("not allow")
	r.access = access
	r.server.Fail(objecttest.Fault{Status: 403, Code: "RequestTimeTooSkewed"})
	refused("clock")
	r.server.Heal()
	r.place = "s3://127.0.0.1:1/backups/pc"
	expect(t, exitFailed, r.run(impatient, "--no-snapshot"), "127.0.0.1:1 refuses connections")
	r.place = place
	r.saves()
	r.isSaved()
}

// A server, or a disk, that is full gives nothing false, and what it got of the backup makes room again.
func TestAFullStoreFailsTheRunAndTheNextOneHasRoomAgain(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"folder", "server"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newOffsiteSource(t)
			disk := btrfstest.NewOther(t, "ext4", 64<<20).Dir
			if kind == "folder" {
				r.folder = filepath.Join(disk, "store")
				r.place = "store:" + r.folder
			} else {
				btrfstest.Check(t, os.Mkdir(filepath.Join(disk, "buckets"), 0o755))
				r.server = objecttest.Start(t, objecttest.Options{Folder: filepath.Join(disk, "buckets")})
				r.server.Bucket(t, "backups")
				r.access = objecttest.Credentials(t, objecttest.Key, objecttest.Secret)
				r.in("pc")
			}
			r.saves()
			btrfstest.Run(t, "sh", "-c", `head -c 58M /dev/zero >"$1"/ballast || :`, "-", disk)
			r.write("data", 12*smallPart)
			failed := expect(t, exitFailed, r.run(impatient), "error: sending ")
			if kind == "folder" && !strings.Contains(failed.stderr, "no space left") {
				t.Errorf("it does not tell that there is no space:\n%s", failed.stderr)
			}
			if got := r.held(); len(got) != 1 {
				t.Fatalf("the store holds %v", got)
			}
			if left := len(parts(r.objects())); kind == "folder" && left != 1 {
				t.Errorf("%d parts are left", left)
			}
			btrfstest.Check(t, os.Remove(filepath.Join(disk, "ballast")))
			r.saves()
			r.isSaved()
		})
	}
}

// What is no object of a store is nothing that a run stumbles over.
func TestWhatOtherProgramsLeaveInAStoreIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	r.saves()
	for _, key := range []string{"notes.txt", "backups/notes.txt", "index/.hidden", "backups/" + r.sourceName() + "/notes.txt"} {
		btrfstest.Check(t, os.WriteFile(filepath.Join(r.folder, key), []byte("mine"), 0o600))
	}
	r.write("data", smallPart)
	r.saves("-N", "1", "-n", "1")
	for _, key := range []string{"notes.txt", "backups/notes.txt", "index/.hidden", "backups/" + r.sourceName() + "/notes.txt"} {
		if !exists(filepath.Join(r.folder, key)) {
			t.Errorf("%s is gone", key)
		}
	}
	if got := r.held(); !slices.Contains(got, r.snapshots()[len(r.snapshots())-1]) {
		t.Errorf("the store holds %v", got)
	}
}

// A slow and lossy server costs time, and nothing else.
func TestAServerThatFailsNowAndThenIsNoFailure(t *testing.T) {
	t.Parallel()
	r := newServedRig(t)
	puts := objecttest.Of("PUT")
	for skip, f := range []objecttest.Fault{{Status: 503, Code: "SlowDown"}, {Cut: true}, {Lose: true}, {Damage: true}, {Status: 500, Code: "InternalError"}} {
		f.Match, f.Times, f.Skip = puts, 1, 1+skip
		r.server.Fail(f)
	}
	r.server.Fail(objecttest.Fault{Match: objecttest.Of("LIST"), Times: 1, Cut: true})
	r.write("data", 6*smallPart)
	r.saves()
	r.isSaved()
}
