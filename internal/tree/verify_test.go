package tree

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
)

// newVerifiable makes a folder with a backup of that name.
func newVerifiable(t *testing.T, name string) *rig {
	r := newRig(t, "ext4")
	r.write("a/file", "content")
	r.backup(name, "")
	return r
}

func TestVerifyNeedsABackupAndItsManifest(t *testing.T) {
	t.Parallel()
	r := newVerifiable(t, "1")
	fail := func(d Difference) { t.Errorf("it told %+v", d) }
	check(t, r.folder.state.Remove(state.ManifestFile("1")))
	_, err := r.folder.Verify(t.Context(), "1", VerifyOptions{}, fail, unwatched)
	if !errors.Is(err, ErrNoManifest) || !strings.Contains(err.Error(), r.path("1")) {
		t.Errorf("without a manifest: %v", err)
	}
	if err := r.folder.Export(t.Context(), "1", &bytes.Buffer{}); !errors.Is(err, ErrNoManifest) {
		t.Errorf("exporting without a manifest: %v", err)
	}
	check(t, os.RemoveAll(r.path("1")))
	_, err = r.folder.Verify(t.Context(), "1", VerifyOptions{}, fail, unwatched)
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoManifest) {
		t.Errorf("without the backup: %v", err)
	}
}

func TestVerifyTakesNothingButTheNameOfABackup(t *testing.T) {
	t.Parallel()
	r := newVerifiable(t, "1")
	for _, name := range []string{"", ".", "..", "../folder/1", "1/a", StateDir} {
		_, err := r.folder.Verify(t.Context(), name, VerifyOptions{}, func(Difference) {}, unwatched)
		if err == nil || errors.Is(err, ErrNoManifest) {
			t.Errorf("Verify(%q): %v", name, err)
		}
		if err := r.folder.Export(t.Context(), name, &bytes.Buffer{}); err == nil || errors.Is(err, ErrNoManifest) {
			t.Errorf("Export(%q): %v", name, err)
		}
	}
}

func TestABackupIsVerifiedByALinkToIt(t *testing.T) {
	t.Parallel()
	r := newVerifiable(t, "1")
	check(t, os.Symlink("1", r.path(".latest")))
	v, err := r.folder.Verify(t.Context(), ".latest", VerifyOptions{}, func(d Difference) { t.Error(d) }, unwatched)
	if err != nil || v.Files == 0 {
		t.Errorf("%+v, error: %v", v, err)
	}
	check(t, r.folder.Export(t.Context(), ".latest", &bytes.Buffer{}))
	for _, target := range []string{"../folder/1", r.path("1")} {
		check(t, os.Remove(r.path(".latest")))
		check(t, os.Symlink(target, r.path(".latest")))
		if _, err := r.folder.Verify(t.Context(), ".latest", VerifyOptions{}, func(Difference) {}, unwatched); err == nil {
			t.Errorf("a link to %s is followed out of the folder", target)
		}
	}
}

func unwatched(int64, int64) {}

func TestHowFarAVerificationIsIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	r.populate()
	r.backup("1", "")
	var last, want int64
	seen := make(map[uint64]bool)
	for _, e := range r.entries("1") {
		if !seen[e.Inode] {
			want += e.Size
		}
		seen[e.Inode] = true
	}
	watch := func(read, total int64) {
		if read < last || total != want {
			t.Errorf("%d of %d bytes were read, after %d; want %d", read, total, last, want)
		}
		last = read
	}
	v, err := r.folder.Verify(t.Context(), "1", VerifyOptions{}, func(d Difference) { t.Error(d) }, watch)
	check(t, err)
	if last != want || v.Bytes != want {
		t.Errorf("%d bytes were told in the end, %d were read, want %d", last, v.Bytes, want)
	}
}

// What shares an inode number, and what is on record, with a newer backup need not be that: on btrfs each subvolume has its own.
func TestOfAnOlderBackupIsReadWhatANewerOneDoesNotHold(t *testing.T) {
	t.Parallel()
	r := newRig(t, "btrfs")
	for _, name := range []string{"shared", "damaged", "forged"} {
		r.write(name, strings.Repeat(name, 2000))
	}
	r.backup("1", "")
	r.backup("2", "1")
	verify := func(o VerifyOptions) (v Verified, differences []string) {
		o.Since = "2"
		v, err := r.folder.Verify(t.Context(), "1", o, func(d Difference) { differences = append(differences, d.Path+" "+string(d.Kind)) }, unwatched)
		check(t, err)
		return v, differences
	}
	if v, differences := verify(VerifyOptions{}); v.Bytes != 0 || v.Since != "2" || len(differences) > 0 {
		t.Errorf("what is shared is read: %+v, %q", v, differences)
	}
	forged := r.path("1/forged")
	info, err := os.Stat(forged)
	check(t, err)
	check(t, btrfs.SetReadOnly(r.folder.dir, "1", false))
	check(t, os.WriteFile(forged, []byte(strings.Repeat("FORGED", 2000)), 0o644))
	check(t, os.Chtimes(forged, info.ModTime(), info.ModTime()))
	check(t, btrfs.SetReadOnly(r.folder.dir, "1", true))
	if _, differences := verify(VerifyOptions{}); !slices.Equal(differences, []string{"forged content"}) {
		t.Errorf("differences: %q", differences)
	}
	btrfstest.Damage(t, r.path("1/damaged"), 0)
	if _, differences := verify(VerifyOptions{Also: []string{"damaged"}}); !slices.Equal(differences, []string{"damaged damaged", "forged content"}) {
		t.Errorf("what is damaged in the newer one: %q", differences)
	}
}
