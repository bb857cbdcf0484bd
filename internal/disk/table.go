package disk

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

// table gives the words of each line of a file such as fstab. A file that is missing has no lines.
func table(path string) (lines [][]string, err error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(content)) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		for i, word := range words {
			words[i] = unescape(word)
		}
		lines = append(lines, words)
	}
	return lines, err
}

// unescape reads the octal numbers by which fstab(5) and crypttab(5) write blanks.
func unescape(word string) string {
	var out strings.Builder
	for rest := word; rest != ""; {
		before, after, found := strings.Cut(rest, `\`)
		out.WriteString(before)
		if !found {
			break
		}
		if len(after) >= 3 {
			if n, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
				out.WriteByte(byte(n))
				rest = after[3:]
				continue
			}
		}
		out.WriteByte('\\')
		rest = after
	}
	return out.String()
}

// fstabSource gives the device that /etc/fstab has for a directory.
func (o Options) fstabSource(dir string) (source string, found bool, err error) {
	lines, err := table(o.path("etc/fstab"))
	for _, words := range lines {
		if len(words) > 1 && filepath.Clean(words[1]) == filepath.Clean(dir) {
			return words[0], true, nil
		}
	}
	return "", false, err
}

var tags = []string{"UUID", "LABEL", "PARTUUID", "PARTLABEL"}

// device gives the path of a device that is named as in fstab: by a path, or as UUID=X. It is absent if that is "". What
// is no device is given as it is.
func (o Options) device(ctx context.Context, name string) (path string, err error) {
	tag, value, isTag := strings.Cut(name, "=")
	if !isTag || !slices.Contains(tags, tag) {
		if !strings.HasPrefix(name, "/") || strings.HasPrefix(name, "//") { // of another machine, or of none
			return name, nil
		}
		return existing(name)
	}
	value = strings.Trim(value, `"`)
	if isLong := len(value) == len("01234567-89ab-cdef-0123-456789abcdef"); tag == "UUID" && isLong {
		value = strings.ToLower(value) // those of FAT and NTFS are in capitals
	}
	// where udev keeps links, none means that there is no such device: no sleeping disk is woken to look for it
	if links := o.path("dev/disk/by-" + strings.ToLower(tag)); isPlain(value) && exists(links) {
		return existing(filepath.Join(links, value))
	}
	found, err := o.output(ctx, "findfs", tag+"="+value)
	if exit := (*transport.ExitError)(nil); errors.As(err, &exit) && !exit.Killed() {
		return "", nil
	}
	return strings.TrimSpace(found), err
}

// isPlain tells that udev writes a value as it is.
func isPlain(value string) bool {
	return strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

func existing(path string) (string, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
