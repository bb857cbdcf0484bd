package mirror

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/lock"
)

var check = btrfstest.Check

// journal keeps what is logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// here is this machine.
func here() *local.Host { return local.New(quiet()) }

// write makes files whose content is their path.
func write(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, p := range paths {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, p)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, p), []byte(p), 0o644))
	}
}

// sourceOf makes a source of those files.
func sourceOf(t *testing.T, o SourceOptions, paths ...string) *Source {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, paths...)
	o.Log = quiet()
	return NewSource(here(), dir, o)
}

// folderFor names a new folder for the source, on the filesystem of temporary files.
func folderFor(t *testing.T, s *Source, o Options) *Destination {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet()
	}
	if o.MaxDelete == 0 {
		o.MaxDelete = 100
	}
	return NewDestination(here(), filepath.Join(t.TempDir(), "backups"), s, o)
}

// backUp makes a backup of that name as the engine does.
func backUp(ctx context.Context, f *Destination, name string) (engine.Result, error) {
	return save(ctx, f, name, func(t engine.Transfer) (engine.Result, error) {
		if _, err := f.Mark(ctx); err != nil {
			return engine.Result{}, err
		}
		return f.Save(ctx, t)
	})
}

// openOrCreate opens a destination, which is created if it is missing.
func openOrCreate(ctx context.Context, d *Destination) error {
	err := d.Open(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		err = d.Create(ctx)
	}
	return err
}

func rehearsal(ctx context.Context, f *Destination, name string) (engine.Result, error) {
	return save(ctx, f, name, func(t engine.Transfer) (engine.Result, error) { return f.Rehearse(ctx, t) })
}

func save(ctx context.Context, f *Destination, name string, do func(engine.Transfer) (engine.Result, error)) (engine.Result, error) {
	if err := f.source.Open(ctx); err != nil {
		return engine.Result{}, err
	}
	if err := openOrCreate(ctx, f); err != nil {
		return engine.Result{}, err
	}
	defer f.Close()
	release, err := f.Lock(ctx, func(*lock.HeldError) {})
	if err != nil {
		return engine.Result{}, err
	}
	defer release()
	found, err := f.List(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	t := transferOf(name)
	if n := len(found.Recorded); n > 0 {
		t.Parent = &btrfs.Subvolume{Name: found.Recorded[n-1].Name}
	}
	return do(t)
}

func transferOf(name string) engine.Transfer {
	return engine.Transfer{Snapshot: btrfs.Subvolume{Name: name}, Started: time.Now()}
}

func mustBackUp(t *testing.T, f *Destination, name string) {
	t.Helper()
	copied, err := backUp(t.Context(), f, name)
	check(t, err)
	if copied.Incomplete != nil {
		t.Fatalf("%s is incomplete: %v", name, copied.Incomplete)
	}
}

// names gives the backups in the folder, complete or not.
func names(t *testing.T, f *Destination) []string {
	t.Helper()
	check(t, f.Open(t.Context()))
	defer f.Close()
	found, err := f.List(t.Context())
	check(t, err)
	var names []string
	for _, k := range found.Recorded {
		names = append(names, k.Name)
	}
	return names
}

// mustRefuse fails the test unless the error says so, and gives its hint.
func mustRefuse(t *testing.T, err error, says string) (forward string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Fatalf("got %v, want an error that says %q", err, says)
	}
	return hint.Of(err)
}

func installedRsync(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("rsync")
	check(t, err)
	return path
}

// rsyncIs puts a shell script in the place of rsync. In it "$real" is rsync, and "$dir" a directory of its own, which is returned.
func rsyncIs(t *testing.T, script string) (dir string) {
	t.Helper()
	real, dir := installedRsync(t), t.TempDir()
	content := "#!/bin/sh\nreal=" + real + " dir=" + dir + "\n" + script + "\n"
	check(t, os.WriteFile(filepath.Join(dir, "rsync"), []byte(content), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

// spied lets the real rsync run and gives the arguments of each run. Listings are left out.
func spied(t *testing.T) func() [][]string {
	t.Helper()
	dir := rsyncIs(t, `for word; do printf '%s\0' "$word"; done >>"$dir/args"; printf '\n\0' >>"$dir/args"; exec "$real" "$@"`)
	return func() (runs [][]string) {
		content, err := os.ReadFile(filepath.Join(dir, "args"))
		check(t, err)
		for run := range strings.SplitSeq(strings.TrimSuffix(string(content), "\n\x00"), "\n\x00") {
			args := strings.Split(strings.TrimSuffix(run, "\x00"), "\x00")
			if !slices.Contains(args, "--list-only") {
				runs = append(runs, args)
			}
		}
		return runs
	}
}
