package host

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"btrfs-backup/btrfs"
	"btrfs-backup/lock"
)

// shellDir is a directory of a Shell.
type shellDir struct {
	host  *Shell
	place shellPlace

	mu    sync.Mutex
	locks []*shellLock // those that are held
}

func (d *shellDir) Status() Status { return d.place.Status }

func (d *shellDir) pathOf(name string) string { return filepath.Join(d.place.Path, name) }

// arguments are those of a script that begins with scriptDir.
func (d *shellDir) arguments(args ...string) []string {
	id := d.place.device
	if d.place.Btrfs {
		id = strconv.FormatUint(d.place.Place.Subvolume, 10)
	}
	return append([]string{d.place.Path, id, strconv.FormatUint(d.place.Place.Inode, 10)}, args...)
}

// Close gives the locks up.
func (d *shellDir) Close() error {
	d.mu.Lock()
	locks := d.locks
	d.locks = nil
	d.mu.Unlock()
	var err error
	for _, l := range locks {
		err = l.release()
	}
	return err
}

func (d *shellDir) List(ctx context.Context) (Content, error) {
	status, content, err := d.host.List(ctx, d.place.Path)
	if err == nil && status.Place != d.place.Place {
		err = fmt.Errorf("%s is another directory than before", d.place.Path)
	}
	if err != nil {
		return Content{}, err
	}
	return content, nil
}

func (d *shellDir) Nested(ctx context.Context) ([]Nested, error) {
	a, err := d.host.run(ctx, "listing", scriptNested, nil, d.place.Path)
	if err != nil {
		return nil, at("list", d.place.Path, err)
	}
	p, err := readPlace(&a, d.place.Path)
	if err == nil && !p.Btrfs {
		err = btrfs.ErrNotBtrfs
	}
	if err != nil {
		return nil, at("list", d.place.Path, err)
	}
	rows, err := parseList(a.next())
	if err != nil || a.err != nil {
		return nil, at("list", d.place.Path, errorOf(err, a.err))
	}
	var nested []Nested
	for _, r := range rows {
		below, ok := strings.CutPrefix(r.path, p.within)
		if !ok || r.Container != p.Place.Subvolume {
			continue
		}
		n := Nested{Path: below, ParentUUID: r.ParentUUID, Container: r.Container}
		if path.Dir(below) == "." {
			n.ContainerAt = p.Place.Inode
		}
		nested = append(nested, n)
	}
	return nested, nil
}

// Take makes the snapshot and checks of what it is one.
func (d *shellDir) Take(ctx context.Context, source string, uuid btrfs.UUID, name string) (btrfs.Subvolume, error) {
	operation, path := "taking snapshot", d.pathOf(name)
	a, err := d.host.run(ctx, operation, scriptTake, nil, d.arguments(source, uuid.String(), name)...)
	if err != nil {
		return btrfs.Subvolume{}, at(operation, path, told(err))
	}
	s, err := d.described(&a, name)
	if err == nil && (s.ParentUUID != uuid || !s.ReadOnly) {
		err = fmt.Errorf("it is not a read-only snapshot of %s", source)
	}
	return s, at(operation, path, err)
}

// described reads the description that a script ends with of a subvolume in the directory.
func (d *shellDir) described(a *printed, name string) (btrfs.Subvolume, error) {
	id, _, _ := bytes.Cut(bytes.TrimPrefix(a.rest, []byte("ID ")), []byte(" "))
	n, err := strconv.ParseUint(string(id), 10, 64)
	if err != nil {
		return btrfs.Subvolume{}, errIncomplete
	}
	s, err := readSubvolume(a, n)
	s.Name, s.DirID = name, d.place.Place.Inode // the list breaks off names with line breaks
	return s, err
}

// maxNames is how many bytes of names are given to one session. Linux takes up to 128 KiB in one argument, which a whole
// command line is for the login shell; a quote takes four bytes.
const maxNames = 24 << 10

func (d *shellDir) Delete(ctx context.Context, names []string, o DeleteOptions) (deleted []string, err error) {
	var failures []error
	for len(names) > 0 {
		size, n := 0, 0
		for n < len(names) && (n == 0 || size+len(names[n]) <= maxNames) {
			size += len(names[n]) + 1
			n++
		}
		gone, errs := d.deleteSome(ctx, names[:n], o)
		deleted, failures = append(deleted, gone...), append(failures, errs...)
		if len(gone)+len(errs) < n || ctx.Err() != nil {
			break
		}
		names = names[n:]
	}
	return deleted, errorOf(failures...)
}

// deleteSome deletes in one session.
func (d *shellDir) deleteSome(ctx context.Context, names []string, o DeleteOptions) (deleted []string, failures []error) {
	flag := map[bool]string{true: "1"}
	arguments := append([]string{flag[o.ConvertRW], flag[o.Wait]}, names...)
	a, err := d.host.run(ctx, "deleting", scriptDelete, nil, d.arguments(arguments...)...)
	for _, name := range names {
		message := a.next()
		if a.err != nil {
			break
		}
		if failure := verdict("deleting subvolume", d.pathOf(name), message); failure != nil {
			failures = append(failures, failure)
			continue
		}
		d.host.options.Log.Debug("deleted " + d.pathOf(name))
		deleted = append(deleted, name)
	}
	if err == nil {
		err = a.err
	}
	if err != nil {
		failures = append(failures, at("deleting subvolumes", d.place.Path, err))
	}
	return deleted, failures
}

func (d *shellDir) WriteLedger(ctx context.Context, content []byte) error {
	return d.replaceFile(ctx, lock.LedgerFile, content)
}

// replaceFile writes a file beside the old one, puts it on disk, then in the old one's place, and puts that on disk.
func (d *shellDir) replaceFile(ctx context.Context, name string, content []byte) error {
	_, err := d.host.run(ctx, "writing", scriptReplace, content, d.arguments(name, strconv.Itoa(len(content)))...)
	return at("writing", d.pathOf(name), told(err))
}

func (d *shellDir) Link(ctx context.Context, name, target string) error {
	_, err := d.host.run(ctx, "linking", scriptLink, nil, d.arguments(name, target)...)
	return at("linking", d.pathOf(name), told(err))
}

func (d *shellDir) Sync(ctx context.Context) error {
	_, err := d.host.run(ctx, "sync", scriptSync, nil, d.arguments()...)
	return at("sync", d.place.Path, told(err))
}
