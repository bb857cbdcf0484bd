package survey

import (
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

func TestAFileIsUnchangedOnlyIfNothingSpeaksAgainstIt(t *testing.T) {
	t.Parallel()
	old := manifest.Entry{Path: "file", Type: manifest.Regular, Mode: 0o644, UID: 1, GID: 2, Size: 3,
		ModTime: manifest.Time{Sec: 4, Nsec: 5}, SHA256: manifest.Digest{6}, Inode: 7, Links: 2, ChangeTime: manifest.Time{Sec: 8, Nsec: 9}}
	for _, test := range []struct {
		name             string
		change           func(old, e *manifest.Entry)
		links, subvolume bool // whether it is unchanged
	}{
		{"nothing", func(_, e *manifest.Entry) {}, true, true},
		{"another link", func(_, e *manifest.Entry) { e.Links++ }, true, true},
		{"time of change", func(_, e *manifest.Entry) { e.ChangeTime.Nsec++ }, true, false},
		{"no link to the older one", func(_, e *manifest.Entry) { e.Links = 1 }, false, true},
		{"inode", func(_, e *manifest.Entry) { e.Inode++ }, false, false},
		{"type", func(_, e *manifest.Entry) { e.Type = manifest.FIFO }, false, false},
		{"size", func(_, e *manifest.Entry) { e.Size++ }, false, false},
		{"time", func(_, e *manifest.Entry) { e.ModTime.Nsec++ }, false, false},
		{"mode", func(_, e *manifest.Entry) { e.Mode = 0o600 }, false, false},
		{"user", func(_, e *manifest.Entry) { e.UID++ }, false, false},
		{"group", func(_, e *manifest.Entry) { e.GID++ }, false, false},
		{"content not known", func(old, _ *manifest.Entry) { old.SHA256 = manifest.Digest{} }, false, false},
		{"directory", func(old, e *manifest.Entry) { old.Type, e.Type = manifest.Directory, manifest.Directory }, false, true},
	} {
		before, e := old, old
		e.SHA256 = manifest.Digest{}
		test.change(&before, &e)
		if got := (&survey{}).unchanged(&before, &e); got != test.links {
			t.Errorf("%s: with links: %v", test.name, got)
		}
		if got := (&survey{Options: Options{Subvolume: true}}).unchanged(&before, &e); got != test.subvolume {
			t.Errorf("%s: in a subvolume: %v", test.name, got)
		}
	}
}
