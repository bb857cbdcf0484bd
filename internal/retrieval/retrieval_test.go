package retrieval_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/retrieval"
)

var here host.Trees = local.New(slog.New(slog.DiscardHandler))

// liar is a machine that tells of another file than it was asked about.
type liar struct{ host.Trees }

func (l liar) Open(ctx context.Context, path string) (*host.Dir, error) {
	dir, err := l.Trees.Open(ctx, path)
	if err == nil {
		dir.Loose = lying{dir.Loose}
	}
	return dir, err
}

type lying struct{ host.Loose }

func (l lying) FindFiles(ctx context.Context, s files.Selection) ([]files.Found, error) {
	found, err := l.Loose.FindFiles(ctx, s)
	if err == nil {
		found[0].Path = ".profile"
	}
	return found, err
}

func TestAMachineDecidesOnNoNameOfAFile(t *testing.T) {
	t.Parallel()
	top, to := t.TempDir(), t.TempDir()
	btrfstest.Check(t, os.MkdirAll(top+"/backup", 0o755))
	btrfstest.Check(t, os.WriteFile(top+"/backup/file", []byte("evil"), 0o644))
	for name, test := range map[string]struct {
		on host.Trees
		ok bool
	}{"honest": {here, true}, "lying": {liar{here}, false}} {
		backup := inventory.Found{Host: test.on, Location: host.Location{Folder: top, Name: "backup"}}
		o := retrieval.Order{Backup: backup, Paths: []string{"file"}, To: retrieval.Target{Host: here, Dir: to, InPlace: true}}
		r, err := retrieval.Prepare(t.Context(), o)
		if err == nil {
			err = r.Run(t.Context(), nil, io.Discard)
			r.Close()
		}
		if test.ok != (err == nil) || !test.ok && !errors.Is(err, files.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := filepath.Glob(to + "/.*"); len(left) > 0 || err != nil {
		t.Errorf("%q are there, %v", left, err)
	}
}

func TestFilesAreTakenOutOfAMemberNotOfASet(t *testing.T) {
	t.Parallel()
	set := inventory.Found{Host: here, Location: host.Location{Folder: "/b", Name: "20260301-120000", Set: &host.Set{Members: []string{"home", "root"}}}}
	err := retrieval.CheckBackup(set)
	if err == nil || hint.Of(err) != "name one of them, such as /b/20260301-120000/home" {
		t.Errorf("%v, hint: %q", err, hint.Of(err))
	}
}
