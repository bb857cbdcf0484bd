package mirror

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// Where nothing but the owner, the mode or the time of a file changed, rsync with --link-dest copies the file of the older backup
// with its attributes, and then gives it to its owner, which takes its capabilities away (rsync/generator.c: copy_altdest_file;
// tried: rsync 3.5). It does not look at them again. So such files are copied a second time, by name: they are new, and what is
// changed in them changes no older backup.

// itemize makes rsync tell what it does with each file that is not linked.
const itemize = "--itemize-changes"

// retouched gives the path that rsync tells, if it is one of such a file: "cf...po.... path", without an x for attributes that it
// set itself (rsync(1), --itemize-changes).
func retouched(line string) (path string, ok bool) {
	const flags, xattrs = 11, 10
	if len(line) <= flags+1 || !strings.HasPrefix(line, "cf") || line[flags] != ' ' || line[xattrs] != '.' {
		return "", false
	}
	return unescaped(line[flags+1:]), true
}

// unescaped gives a path as it is, where rsync shows \#ooo for a byte (rsync/log.c: filtered_fwrite).
func unescaped(path string) string {
	const escape = len(`\#000`)
	var b strings.Builder
	for {
		before, after, found := strings.Cut(path, `\#`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		n, err := strconv.ParseUint(after[:min(escape-2, len(after))], 8, 8)
		if err != nil || len(after) < escape-2 {
			b.WriteString(`\#`)
			path = after
			continue
		}
		b.WriteByte(byte(n))
		path = after[escape-2:]
	}
}

// mayBeCapable tells whether the file of that path in a backup has capabilities, as it may where nobody can look.
func (d *Destination) mayBeCapable(backup, path string) bool {
	if !d.isLocal() {
		return true
	}
	_, err := unix.Lgetxattr(filepath.Join(backup, path), "security.capability", nil)
	return err == nil
}

// repair copies files again that rsync has retouched.
func (d *Destination) repair(ctx context.Context, c copier, w tree.Work, paths []string) error {
	paths = slices.DeleteFunc(paths, func(path string) bool { return !d.mayBeCapable(w.LinkDest, path) })
	if len(paths) == 0 {
		return nil
	}
	d.Log.Debug(fmt.Sprintf("%s: copying the attributes of %d files again", d, len(paths)))
	list, err := os.CreateTemp("", "btrfs-backup-")
	if err != nil {
		return err
	}
	defer list.Close()
	if err := os.Remove(list.Name()); err != nil {
		return err
	}
	if _, err := list.WriteString(strings.Join(paths, "\x00") + "\x00"); err != nil {
		return err
	}
	if _, err := list.Seek(0, 0); err != nil {
		return err
	}
	args := slices.DeleteFunc(slices.Clone(defaults), func(option string) bool { return strings.HasPrefix(option, "--delete") })
	args = append(args, "--files-from=-", "--from0", "--no-implied-dirs", "--ignore-missing-args")
	args = append(append(args, d.faithful(w)...), c.reach...)
	args = append(args, "--", d.source.argument(c.link)+"/", c.to)
	_, err = runRsync(ctx, program{log: d.Log, args: args, link: c.link, line: func(string) {}, stdin: list, source: d.source, dest: c.dest})
	return err
}
