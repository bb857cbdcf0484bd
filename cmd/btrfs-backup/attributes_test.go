package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/attributes"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/transport/sshtest"
)

// setFlags gives files of a source what no stream holds.
func setFlags(t testing.TB, source string) {
	t.Helper()
	btrfstest.Run(t, "sh", "-ec", `cd "$1" && mkdir -p vm docs && chattr +C vm && touch vm/disk docs/a docs/b && chattr +d docs/a && chattr +A docs/b`, "sh", source)
}

// wantFlags fails unless those of a backup are on record.
func wantFlags(t testing.TB, folder, backup string, want ...attributes.File) {
	t.Helper()
	dir := btrfstest.Open(t, folder)
	got, err := attributes.In(dir).Of(backup, "")
	btrfstest.Check(t, err)
	if !equalFiles(got.Files, want) {
		t.Errorf("of %s are on record: %v, want %v", backup, got.Files, want)
	}
	content, err := os.ReadFile(filepath.Join(folder, host.AboutFile))
	btrfstest.Check(t, err)
	var about host.About
	btrfstest.Check(t, json.Unmarshal(content, &about))
	info, err := btrfs.InfoAt(dir, backup)
	btrfstest.Check(t, err)
	if n, known := about.Attributes(info.ReceivedUUID); !known || n != int64(len(want)) {
		t.Errorf("of %s are on record: %d, %t", backup, n, known)
	}
}

func equalFiles(a, b []attributes.File) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestWhatChattrSetIsOnRecordBesideBackupsHereAndElsewhere(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	far := filepath.Join(filepath.Dir(destination), "far")
	r := newRemote(t, sshtest.Options{})
	place := r.place(far)
	run := func(day int) string {
		return backUp(t, exitDone, march(day), r.arguments(source, destination, place)...).Snapshot
	}
	setFlags(t, source)
	first := run(1)
	vm := []attributes.File{{Path: "vm", Flags: btrfs.NoCowFlag}, {Path: "vm/disk", Flags: btrfs.NoCowFlag}}
	docs := []attributes.File{{Path: "docs/a", Flags: btrfs.NoDumpFlag}, {Path: "docs/b", Flags: btrfs.NoAtimeFlag}}
	for _, folder := range []string{destination, far} {
		wantFlags(t, folder, first, append(docs, vm...)...)
	}
	btrfstest.Run(t, "sh", "-ec", `cd "$1" && chattr -d docs/a && mv docs/b docs/c && touch d && chattr +d d`, "sh", source)
	second := run(2)
	for _, folder := range []string{destination, far} {
		wantFlags(t, folder, second, append([]attributes.File{{Path: "d", Flags: btrfs.NoDumpFlag}, {Path: "docs/c", Flags: btrfs.NoAtimeFlag}}, vm...)...)
		btrfstest.Check(t, os.Remove(filepath.Join(folder, host.AboutFile))) // as an earlier version left it
	}
	third := run(3)
	for _, folder := range []string{destination, far} {
		wantFlags(t, folder, third, append([]attributes.File{{Path: "d", Flags: btrfs.NoDumpFlag}, {Path: "docs/c", Flags: btrfs.NoAtimeFlag}}, vm...)...)
	}
}

func TestWhatChattrHadSetIsSetAgainByARestore(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	setFlags(t, source)
	write(t, filepath.Join(source, "vm/disk"), "content")
	btrfstest.Run(t, "sh", "-ec", `cd "$1" && touch vm/empty && chattr +C vm/empty && mkdir fixed && chattr +i fixed && chattr +a docs/a`, "sh", source)
	backup := backUp(t, exitDone, march(1), source, destination).Snapshot
	target := filepath.Join(smallFS(t).Dir, "home")
	defer func() {
		btrfstest.Run(t, "chattr", "-i", "-a", source+"/fixed", source+"/docs/a", target+"/fixed", target+"/docs/a")
	}()
	r := expect(t, exitDone, invoke(t, march(2), "restore", filepath.Join(destination, backup), target))
	if !strings.Contains(r.stdout, "of 5 files and directories is set again\nvm/disk lacks the attribute C: only an empty file") {
		t.Errorf("restoring:\n%s", r.stdout)
	}
	for path, want := range map[string]btrfs.Flags{"vm": btrfs.NoCowFlag, "vm/empty": btrfs.NoCowFlag, "fixed": btrfs.ImmutableFlag,
		"docs/a": btrfs.AppendFlag | btrfs.NoDumpFlag, "docs/b": btrfs.NoAtimeFlag, "vm/disk": 0} {
		file, err := os.Open(filepath.Join(target, path))
		btrfstest.Check(t, err)
		if got, err := btrfs.FlagsOf(file); got != want || err != nil {
			t.Errorf("%s has %q, want %q, %v", path, got, want, err)
		}
		btrfstest.Check(t, file.Close())
	}
}

func TestWhatChattrHadSetComesBackWithSingleFiles(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	setFlags(t, source)
	write(t, filepath.Join(source, "vm/disk"), "content")
	backup := filepath.Join(destination, backUp(t, exitDone, march(1), source, destination).Snapshot)
	for _, to := range []string{makeDir(t, source+"/restored"), makeDir(t, destination+"-restored")} { // there, the extents could be shared
		expect(t, exitDone, invoke(t, march(2), "restore", backup, "--path", "vm", "--path", "docs/a", "--to", to))
		for path, want := range map[string]btrfs.Flags{"vm": btrfs.NoCowFlag, "vm/disk": btrfs.NoCowFlag, "a": btrfs.NoDumpFlag} {
			file, err := os.Open(filepath.Join(to, path))
			btrfstest.Check(t, err)
			if got, err := btrfs.FlagsOf(file); got != want || err != nil {
				t.Errorf("%s has %q, want %q, %v", file.Name(), got, want, err)
			}
			btrfstest.Check(t, file.Close())
		}
	}
}
