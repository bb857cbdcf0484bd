package stored

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/files"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/restore"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/chain"
	"github.com/btrfs-backup/btrfs-backup/internal/restore/partial"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// Files is an order to bring single files and directories of a backup to this machine.
type Files struct {
	restore.Order // Target is ignored
	From
	Paths   []string // in the backup, or as they were at its source; they are what they are in the backup when Extract ends
	Scratch []string // directories of this machine, of which the first on a btrfs serves for a while
}

// Extracted are the files, in a subvolume that holds nothing else.
type Extracted struct {
	inventory.Found // none after a dry run
	dir             string
	host            host.Trees
}

// Extract fetches the parts of the streams that hold the files, makes subvolumes of these, and tells beforehand how much that is. What it
// gives must be closed.
func Extract(ctx context.Context, o *Files) (e *Extracted, err error) {
	s, err := open(ctx, o.From)
	if err != nil {
		return nil, err
	}
	ids, err := o.Identities(ctx)
	if err != nil {
		return nil, err
	}
	x := &extraction{source: s, order: o, ids: ids}
	if err := x.choose(ctx); err != nil {
		return nil, s.explain(ctx, err)
	}
	s.Tell(x.line())
	if o.DryRun {
		return &Extracted{}, nil
	}
	e = &Extracted{host: o.To}
	if len(o.Scratch) > 1 && x.from != "" { // none was named
		o.Scratch = append(slices.Clone(o.Scratch), path.Dir(x.from), x.from)
	}
	if e.dir, err = scratch(ctx, o.To, o.Scratch, 0); err != nil {
		return nil, err
	}
	if err = x.receive(ctx, e.dir); err == nil {
		e.Found, err = restore.Find(ctx, o.To, path.Join(e.dir, s.backup.Name), time.Time{})
	}
	if err != nil {
		return nil, errors.Join(s.explain(ctx, err), e.Close())
	}
	if err := s.Trust.Record(s.Found.Source); err != nil {
		s.Found.Store.Log.Warn(fmt.Sprintf("whose signature was taken is not recorded: %v", err))
	}
	return e, nil
}

// Close removes what was extracted.
func (e *Extracted) Close() error {
	if e.dir == "" {
		return nil
	}
	return clear(e.dir)
}

// clear removes a directory with subvolumes in it.
func clear(dir string) error {
	at, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer at.Close()
	names, err := at.Readdirnames(-1)
	for _, name := range names {
		in, openErr := btrfs.OpenDirAt(at, name)
		if openErr != nil {
			continue
		}
		isSubvolume := btrfs.CheckSubvolume(in) == nil
		if err = errors.Join(err, in.Close()); isSubvolume {
			err = errors.Join(err, btrfs.Delete(at, name))
		}
	}
	return errors.Join(err, os.RemoveAll(dir))
}

const scratchPrefix = ".btrfs-backup-files."

// scratch makes a directory for what is received to be looked at, and removes those that killed processes left. Of several candidates
// only those count that have room for so many bytes.
func scratch(ctx context.Context, h host.Trees, candidates []string, room int64) (string, error) {
	for _, at := range candidates {
		dir, err := h.Open(ctx, at)
		if err != nil {
			continue
		}
		status := dir.Status()
		if err := dir.Close(); err != nil || !status.Btrfs || status.CheckWritable() != nil {
			continue
		}
		left, _ := filepath.Glob(filepath.Join(at, scratchPrefix+"*")) // the pattern is good
		for _, old := range left {
			pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(old), scratchPrefix))
			if err == nil && pid != os.Getpid() && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
				_ = clear(old) // which the next one tries again
			}
		}
		var free unix.Statfs_t
		if len(candidates) > 1 && unix.Statfs(at, &free) == nil && int64(free.Bavail)*int64(free.Bsize) < room {
			continue
		}
		made := filepath.Join(at, scratchPrefix+strconv.Itoa(os.Getpid()))
		return made, os.Mkdir(made, 0o700)
	}
	needed := "a btrfs is needed to receive a stream on"
	if room > 0 {
		needed = "a btrfs with " + progress.Bytes(room) + " of free space is needed to receive streams on"
	}
	return "", hint.New(fmt.Errorf("%s, and there is none at %s", needed, strings.Join(candidates, ", ")),
		"name a directory on one of this machine: --scratch DIR; it is needed for a while")
}

// extraction is an order for files under way.
type extraction struct {
	*source
	order     *Files
	ids       seal.Identities
	selection *partial.Selection
	from      string     // the path of the source of the backup
	writing   sync.Mutex // of one stream after another
}

// choose finds the files, and which parts they need.
func (x *extraction) choose(ctx context.Context) error {
	if !x.missing.IsZero() {
		return x.instead(fmt.Errorf("%s cannot be restored: it builds on %s, which is not in %s", x.name(), x.missing, x.Found.Place))
	}
	var err error
	if x.selection, err = x.follow(ctx, x.ids); err != nil {
		return err
	}
	p, err := x.backup.Private(x.ids)
	if err != nil {
		return unreadable(err)
	}
	x.from = p.Path
	if len(x.order.Paths) == 0 {
		x.order.Paths = []string{"."}
	}
	for i, wanted := range x.order.Paths {
		if x.order.Paths[i], err = x.find(wanted, p.Path); err != nil {
			return err
		}
	}
	x.needs = func(b *store.Backup, part int) bool {
		return slices.Contains(x.selection.Parts(slices.Index(x.chain, b)), part)
	}
	return x.selection.Choose(x.order.Paths)
}

// find gives the path in the backup of what is wanted: that, or the path that it had at the source.
func (x *extraction) find(wanted, source string) (string, error) {
	clean, err := files.Clean(wanted)
	if err != nil {
		return "", err
	}
	if there, _ := x.selection.Has(clean); there {
		return clean, nil
	}
	if below, ok := strings.CutPrefix(path.Clean(wanted), strings.TrimSuffix(source, "/")); ok && path.IsAbs(wanted) {
		if below = strings.TrimPrefix(below, "/"); below == "" {
			below = "."
		}
		if there, _ := x.selection.Has(below); there {
			return below, nil
		}
	}
	return "", notIn(wanted, x.name(), source)
}

func notIn(wanted, backup, source string) error {
	return hint.Newf(fmt.Errorf("%s is not in %s: %w", progress.Name(wanted), backup, fs.ErrNotExist),
		"a file is named by its path in %s; another backup may have it: --at DATE", source)
}

// line tells how much is to be fetched.
func (x *extraction) line() string {
	var some, all Fetched
	for i, b := range x.chain {
		for _, n := range x.selection.Parts(i) {
			some.add(b.Parts[n])
		}
		for _, p := range b.Parts {
			all.add(p)
		}
	}
	some.price(x.Price)
	return fmt.Sprintf("to be fetched: %s of %s, %s of %s", report.Count(some.Objects, "part"), report.Count(all.Objects, "part"),
		progress.Bytes(some.Bytes), progress.Bytes(all.Bytes)) + some.costs()
}

// receive makes subvolumes with the files.
func (x *extraction) receive(ctx context.Context, dir string) error {
	var inputs []*chain.Input
	for i, b := range x.chain {
		k, err := x.known(b, x.ids)
		if err != nil {
			return err
		}
		k.UUID, k.Parent, k.Bytes = x.selection.UUID(b.UUID), x.selection.UUID(b.Parent), 0
		for _, n := range x.selection.Parts(i) {
			k.Bytes += b.Parts[n].Plain
		}
		k.Open = func(ctx context.Context) (io.ReadCloser, error) { return x.stream(ctx, i, b), nil }
		inputs = append(inputs, chain.Stored(k))
	}
	o := x.order.Order
	o.Target, o.InPlace, o.SnapshotFolder = dir, false, ""
	o.Log = slog.New(onlyWarnings{o.Log.Handler()})
	_, err := restore.RunStreams(ctx, o, restore.Streams{Inputs: inputs, Keep: true, Backup: x.name()})
	return err
}

// stream gives what makes the files.
func (x *extraction) stream(ctx context.Context, i int, b *store.Backup) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		x.writing.Lock()
		defer x.writing.Unlock()
		w.CloseWithError(x.selection.Write(w, i, func(n int) ([]byte, error) { return x.Found.Store.Part(ctx, &b.Manifest, n, x.ids) }))
	}()
	return r
}

// onlyWarnings leaves out what is told of subvolumes that nobody asked for.
type onlyWarnings struct{ slog.Handler }

func (h onlyWarnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

// ScratchOr gives the directories that may serve: the named one, or where the files are to go, where they came from, and others.
func ScratchOr(named, to string) []string {
	if named != "" {
		return []string{named}
	}
	var all []string
	if path.IsAbs(to) {
		all = append(all, to, path.Dir(to))
	}
	return append(all, "/var/tmp", "/home", "/")
}
