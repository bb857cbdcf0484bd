package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// errNotSet is the refusal to work on what is no set.
var errNotSet = errors.New("is no directory of links to backups of that name")

const setRemoval = ".deleting"

// setOf gives the name that a set has when it is complete.
func setOf(entry string) (name string, unfinished bool) {
	if name, ok := btrfs.IncomingOf(entry); ok {
		return name, true
	}
	if name, ok := strings.CutSuffix(entry, setRemoval); ok && strings.HasPrefix(name, ".") {
		return name[1:], true
	}
	return entry, false
}

// target is where the link of a member leads to.
func target(member, name string) string { return "../" + member + "/" + name }

// checkComponent refuses what is no name in a directory that a backup, or a folder of backups, may have.
func checkComponent(name string) error {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") || name == tree.StateDir {
		return fmt.Errorf("%q cannot be the name of a set, or of a member", name)
	}
	return nil
}

func (d *Dir) ListSets(ctx context.Context) ([]host.Set, error) {
	entries, err := names(d.dir, maxOthers)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", d.status.Path, err)
	}
	slices.Sort(entries)
	var sets []host.Set
	for _, entry := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		set, err := d.set(entry)
		if errors.Is(err, errNotSet) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// set reads the set that is under a name, hidden or not; anything else is errNotSet.
func (d *Dir) set(entry string) (host.Set, error) {
	name, unfinished := setOf(entry)
	set := host.Set{Name: entry}
	no := &fs.PathError{Op: "read", Path: filepath.Join(d.status.Path, entry), Err: errNotSet}
	if checkComponent(name) != nil || d.status.Btrfs && d.isSubvolume(entry) {
		return set, no
	}
	dir, err := btrfs.OpenDirAt(d.dir, entry)
	if isOneOf(err, unix.ENOTDIR, unix.ELOOP, unix.ENOENT, unix.EACCES) {
		return set, no
	}
	if err != nil {
		return set, err
	}
	defer dir.Close()
	if some, err := names(dir, 1); err == nil && len(some) == 1 && !isLink(dir, some[0]) { // a backup may hold many
		return set, no
	}
	if set.Members, err = names(dir, maxOthers); err != nil {
		return set, err
	}
	if len(set.Members) == 0 && !unfinished {
		return set, no
	}
	slices.Sort(set.Members)
	link := make([]byte, unix.PathMax)
	for _, member := range set.Members {
		n, err := unix.Readlinkat(int(dir.Fd()), member, link)
		if err != nil || string(link[:n]) != target(member, name) {
			return set, no
		}
		if !d.holds(member, name) {
			set.Missing = append(set.Missing, member)
		}
	}
	return set, nil
}

func isLink(dir *os.File, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

func isOneOf(err error, known ...unix.Errno) bool {
	return slices.ContainsFunc(known, func(errno unix.Errno) bool { return errors.Is(err, errno) })
}

// holds tells that there is a backup in the folder of a member. No link is followed.
func (d *Dir) holds(member, name string) bool {
	dir, err := btrfs.OpenDirAt(d.dir, member+"/"+name)
	return err == nil && dir.Close() == nil
}

func (d *Dir) MakeSet(_ context.Context, name string, members []string) error {
	if err := d.makeSet(name, slices.Sorted(slices.Values(members))); err != nil {
		return fmt.Errorf("making the set %s: %w", filepath.Join(d.status.Path, name), err)
	}
	return nil
}

func (d *Dir) makeSet(name string, members []string) error {
	for _, component := range append(slices.Clone(members), name) {
		if err := checkComponent(component); err != nil {
			return err
		}
	}
	if len(members) == 0 {
		return errors.New("it has no members")
	}
	for _, member := range members {
		if !d.holds(member, name) {
			return fmt.Errorf("%s/%s: %w", member, name, fs.ErrNotExist)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		if there, err := d.set(name); err == nil && slices.Equal(there.Members, members) {
			return nil
		}
		return hint.New(fs.ErrExist, "move away what has that name")
	}
	hidden := btrfs.Incoming(name)
	if err := d.discardSet(hidden); err != nil {
		return err
	}
	fd := int(d.dir.Fd())
	if err := unix.Mkdirat(fd, hidden, 0o755); err != nil {
		return os.NewSyscallError("mkdir", err)
	}
	failpoint.Reach("set begun")
	dir, err := btrfs.OpenDirAt(d.dir, hidden)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, member := range members {
		if err := unix.Symlinkat(target(member, name), int(dir.Fd()), member); err != nil {
			return os.NewSyscallError("symlink", err)
		}
	}
	if err := dir.Sync(); err != nil {
		return err
	}
	failpoint.Reach("set linked")
	return d.renameSet(hidden, name)
}

// renameSet gives a directory a name that is free, on disk too.
func (d *Dir) renameSet(from, to string) error {
	fd := int(d.dir.Fd())
	err := unix.Renameat2(fd, from, fd, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // NFS and others cannot refuse to replace; a directory replaces an empty one only
		err = unix.Renameat(fd, from, fd, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: filepath.Join(d.status.Path, from), New: filepath.Join(d.status.Path, to), Err: err}
	}
	err = d.dir.Sync()
	failpoint.Reach("set renamed")
	return err
}

func (d *Dir) RemoveSets(ctx context.Context, names []string) (removed []string, err error) {
	var failures []error
	for _, name := range names {
		if ctx.Err() != nil {
			failures = append(failures, context.Cause(ctx))
			break
		}
		if err := d.removeSet(name); err != nil {
			failures = append(failures, fmt.Errorf("removing the set %s: %w", filepath.Join(d.status.Path, name), err))
			continue
		}
		removed = append(removed, name)
	}
	return removed, errors.Join(failures...)
}

func (d *Dir) removeSet(entry string) error {
	name, unfinished := setOf(entry)
	if unfinished {
		return d.discardSet(entry)
	}
	if _, err := d.set(name); err != nil {
		return err
	}
	hidden := "." + name + setRemoval
	if err := d.discardSet(hidden); err != nil {
		return err
	}
	if err := d.renameSet(name, hidden); err != nil {
		return err
	}
	return d.discardSet(hidden)
}

// discardSet removes what has a hidden name, if it is a set or the beginning of one. A missing one is no error.
func (d *Dir) discardSet(hidden string) error {
	var st unix.Stat_t
	if unix.Fstatat(int(d.dir.Fd()), hidden, &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT {
		return nil
	}
	set, err := d.set(hidden)
	if err != nil {
		return err
	}
	dir, err := btrfs.OpenDirAt(d.dir, hidden)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, member := range set.Members {
		if err := unix.Unlinkat(int(dir.Fd()), member, 0); err != nil {
			return os.NewSyscallError("unlink", err)
		}
		failpoint.Reach("link removed")
	}
	if err := unix.Unlinkat(int(d.dir.Fd()), hidden, unix.AT_REMOVEDIR); err != nil {
		return os.NewSyscallError("rmdir", err)
	}
	return d.dir.Sync()
}
