package mirror

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/tree"

	"golang.org/x/sys/unix"
)

// rsync does not look again at the attributes that it has set, and some of them do not stay:
//
//   - Where nothing but the owner, the mode or the time of a file changed, rsync with --link-dest copies the file of the older backup with
//     its attributes, and then gives it to its owner, which takes its capabilities away (rsync/generator.c: copy_altdest_file).
//   - In the ACL of a directory that becomes sticky, and of a file that loses a set-user-ID or set-group-ID bit, rsync first takes all
//     rights from the group and others. The mode that it sets afterwards gives them to the mask alone (rsync/acls.c: change_sacl_perms).
//
// So such files are copied a second time, by name, when their modes are right (tried: rsync 3.5). Those of the first kind are new, and what
// is changed in the others is changed in them by the first copy as well: no older backup changes.

// itemize makes rsync tell what it does with each file that is not linked: what changed (rsync(1), --itemize-changes), the mode, and
// the path.
const itemize = "--out-format=%i %B %n"

// retouched gives the path that rsync tells, if it is one of such a file.
func retouched(line string) (path string, ok bool) {
	const changed, mode = 11, 9
	if len(line) < changed+1+mode+2 || line[changed] != ' ' || line[changed+1+mode] != ' ' {
		return "", false
	}
	const kind, ofMode, xattrs = 1, 5, 10
	switch {
	case strings.HasPrefix(line, "cf"):
		ok = line[xattrs] == '.'
	case line[kind] == 'd':
		ok = (line[0] == 'c' || line[ofMode] == 'p') && strings.ContainsAny(line[changed+mode:changed+1+mode], "tT")
	case line[kind] == 'f':
		ok = line[ofMode] == 'p'
	}
	path, _ = strings.CutSuffix(unescaped(line[changed+1+mode+1:]), "/") // which would mean all that is in the directory
	return path, ok
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

// listed turns options for a whole tree into those for files whose list rsync reads.
func listed(options []string) []string {
	return append(withoutDelete(options), "--files-from=-", "--from0", "--no-implied-dirs")
}

func withoutDelete(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(option string) bool { return strings.HasPrefix(option, "--delete") })
}

// mayLack tells whether a file has attributes that do not stay, as it may where nobody can look.
func (d *Destination) mayLack(w tree.Work, path string) bool {
	if !d.isLocal() {
		return true
	}
	has := func(backup, attribute string) bool {
		_, err := unix.Lgetxattr(filepath.Join(backup, path), attribute, nil)
		return err == nil
	}
	return has(w.Path, "system.posix_acl_access") || w.LinkDest != "" && has(w.LinkDest, "security.capability")
}

// repair copies files again whose attributes may not have stayed.
func (d *Destination) repair(ctx context.Context, c copier, w tree.Work, paths []string) error {
	if w.LinkDest != "" && d.Rsync == nil { // rsync makes such directories anew, and only tells of what differs from the base
		for _, sticky := range w.Sticky {
			paths = append(paths, string(sticky))
		}
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { return !d.mayLack(w, path) })
	if len(paths) == 0 {
		return nil
	}
	d.Log.Debug(fmt.Sprintf("%s: copying the attributes of %d files again", d, len(paths)))
	list, err := listOf(paths)
	if err != nil {
		return err
	}
	defer list.Close()
	args := append(listed(defaults), "--ignore-missing-args")
	args = append(append(args, d.faithful(w)...), c.reach...)
	args = append(args, "--", d.source.argument(c.link)+"/", c.to)
	_, err = runRsync(ctx, program{log: d.Log, args: args, link: c.link, line: func(string) {}, stdin: list, source: d.source, dest: c.dest})
	return err
}
