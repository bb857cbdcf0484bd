package mirror

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMissing is how many files that are missing in a backup are named in its record.
const maxMissing = 1000

// complaints are what rsync wrote to its standard error.
type complaints struct {
	root    string   // of the source, as rsync writes it
	missing []string // about what could not be copied, the first ones
	count   int      // of these
	fatal   []string // that leave no backup, the first ones
	others  []string // the last ones
	ended   bool     // rsync summed up: what follows are the laments of its other processes
	last    string   // after which rsync need not go on, see hopeless
	end     func()   // ends rsync, which would go on
}

// IncompleteError tells what of the source is missing in a backup.
type IncompleteError struct {
	Messages []string // of rsync, one for each file; the first ones
	Count    int      // of all messages
}

// with puts a message before the others. There may be none: e may be nil.
func (e *IncompleteError) with(message string) *IncompleteError {
	if e == nil {
		return &IncompleteError{[]string{message}, 1}
	}
	return &IncompleteError{append([]string{message}, e.Messages...), e.Count + 1}
}

// Error names the first files.
func (e *IncompleteError) Error() string {
	const shown = 5
	var texts []string
	named, more := make(map[string]bool), e.Count
	for _, m := range e.Messages {
		text := shortened(m)
		name := quoted.FindString(text)
		switch {
		case name != "" && named[name]:
			more--
		case len(texts) < shown:
			texts, named[name] = append(texts, text), true
			more--
		}
	}
	if more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

// shortened words a message of rsync for people: without the process and the names that the file had meanwhile.
func shortened(message string) string {
	text := inProcess.ReplaceAllString(message, "")
	text = unread.ReplaceAllString(text, "$1: $2")
	text = incoming.ReplaceAllString(text, "/$1/")
	if ofDestination.MatchString(message) {
		text = temporary.ReplaceAllString(text, "$1$2$3")
	}
	return text
}

// Details gives the messages, for a report.
func (e *IncompleteError) Details() []string { return e.Messages }

var (
	inProcess = regexp.MustCompile(`^rsync: (?:\[[^]]*\] )?`)
	// forbidden is what rsync says of a file that another user could read, and ofDestination of one that cannot be stored.
	forbidden     = regexp.MustCompile(`\((?:1|13)\)$`)
	ofDestination = regexp.MustCompile(`^rsync: \[(?:generator|receiver)|: the destination did not keep its `)
	quoted        = regexp.MustCompile(`"[^"]*"`)
	temporary     = regexp.MustCompile(`([/"(])\.([^/"(]+)\.[A-Za-z0-9]{6}([",])`) // receiver.c: get_tmpname
	incoming      = regexp.MustCompile(`/\.([^/"]+)\.incoming/`)
	// unread is what rsync says of a file that it cannot read, with the name and the cause.
	unread = regexp.MustCompile(`^(?:send_files failed to open|opendir|readlink_stat|link_stat) ?\(?"(.*)"\)?(?: failed)?: (.*) \([0-9]+\)$`)
)

// Hint tells how to get the rest.
func (e *IncompleteError) Hint() string {
	text := "all other files were copied, and files deleted in the source may still be in the backup; exclude the named files"
	says := func(re *regexp.Regexp) bool { return slices.ContainsFunc(e.Messages, re.MatchString) }
	if says(forbidden) {
		text += ", or run as root (sudo)"
	}
	if says(ofDestination) {
		text += ", or use a filesystem at the destination that can store them"
	}
	return text
}

// add takes a line.
func (c *complaints) add(line string) {
	if strings.HasPrefix(line, "rsync error: ") {
		c.ended = true
	}
	if c.ended {
		return
	}
	switch c.kindOf(line) {
	case missing:
		c.count++
		if len(c.missing) < maxMissing {
			c.missing = append(c.missing, line)
		}
	case fatal:
		if len(c.fatal) < 3 {
			c.fatal = append(c.fatal, line)
		}
		if hopeless(line) {
			c.last, c.ended = line, true
			c.end()
		}
	}
	c.others = append(c.others, line)
	if len(c.others) > 4 {
		c.others = c.others[1:]
	}
}

// A kind is what a line means for the backup.
type kind int

const (
	harmless kind = iota
	missing       // something of the source is not in it
	fatal         // it cannot be relied on
)

// complaint is a message of rsync about an error (rsync/log.c: rsyserr). Those before 3.2 do not name the process. A name in it
// cannot pretend to be more: line feeds are escaped, and a message ends with an errno.
var complaint = regexp.MustCompile(`^rsync: (?:\[(\w+)(?:=[^]]*)?\] )?(.*?)(?: \(([0-9]+)\))?$`)

// Beginnings of messages, from rsync 3.2 to 3.5.
var (
	// reading is what the sender says of what it cannot read (flist.c, sender.c, fileio.c, xattrs.c, acls.c).
	reading = []string{"send_files failed to open ", "opendir ", "readdir(", "readlink_stat(", "link_stat ",
		"read errors mapping ", "get_xattr_names: ", "get_xattr_data: ", "get_acl: ", "sys_acl_get_file("}
	// attributes are what not every filesystem can store, nor every user set (rsync.c: set_file_attrs; xattrs.c; acls.c).
	attributes = []string{"chown ", "chgrp ", "failed to set permissions on ", "failed to modify permissions on ",
		"failed to set times on ", "rsync_xal_set: ", "rsync_xal_clear: ", "set_acl: ", "sys_acl_set_file(",
		"sys_acl_delete_def_file(", "change_sacl_perms: ", "get_xattr_names: ", "get_xattr_data: ", "get_acl: ",
		"gen_entry_copy_xattrs: "}
	// attributesFail are the errors of a disk, not of an attribute. ENOSPC is none: ext4 says so of too long an attribute.
	attributesFail = []unix.Errno{unix.EIO, unix.EROFS, unix.EDQUOT}
	// ofOneFile stand without "rsync: " and are about one file (flist.c, sender.c, receiver.c, generator.c, rsync.c, xattrs.c).
	ofOneFile = []string{"skipping overly long name: ", "filename overflows max-path len by ", "path too long: ",
		"temporary filename too long: ", "skipping file with bogus (zero) st_mode: ", "skipping symlink with 0-length value: ",
		"cannot send file with empty name in ", "skipped diminished file: ", "symlink has no referent: ", "[sender] cannot convert ",
		"[generator] cannot convert ", "Time value of ", "Access time value of ", "uid 4294967295 ", "gid 4294967295 ",
		"skipping socket ", "Missing abbreviated xattr value, ", "failed to re-read xattr ", "ERROR: daemon refused to receive "}
	// ofAName are the errors of a file that the destination cannot hold: its name, its type, its size. The others could be stored.
	ofAName = []unix.Errno{unix.EINVAL, unix.EILSEQ, unix.ENAMETOOLONG, unix.EOPNOTSUPP, unix.ENOSYS, unix.EFBIG, unix.EOVERFLOW}
	// ofTheDisk are the errors of a destination that can hold nothing more.
	ofTheDisk = []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO}
)

// hopeless tells of a fatal line that rsync need not go on. It would: it complains of each file, and on a full disk 3.2 waits in
// the end for an answer that none of its processes gives.
func hopeless(line string) bool {
	m := complaint.FindStringSubmatch(line)
	return m != nil && (m[1] == "receiver" || m[1] == "generator") && slices.Contains(ofTheDisk, errnoOf(m))
}

// kindOf judges a line as if rsync had ended with 23. What is not known to be harmless is fatal.
func (c *complaints) kindOf(line string) kind {
	switch {
	case c.isRoot(line):
		return fatal
	case startsWith(line, ofOneFile), strings.HasPrefix(line, "ERROR: ") && strings.Contains(line, " failed verification -- update "):
		return missing // the file changed while it was copied, twice
	case strings.HasPrefix(line, "ERROR: "), strings.HasPrefix(line, "@ERROR"):
		return fatal
	}
	m := complaint.FindStringSubmatch(line)
	if m == nil {
		return harmless // warnings, and what a login shell says
	}
	process, text, errno := m[1], m[2], errnoOf(m)
	switch {
	case strings.HasPrefix(text, "failed to open ") && strings.HasSuffix(text, ", continuing"):
		return harmless // of an older version; rsync does without
	case startsWith(text, attributes) && process != "sender" && !slices.Contains(attributesFail, errno):
		return missing
	case strings.HasPrefix(text, "mknod ") && errno == unix.EPERM, slices.Contains(ofAName, errno):
		return missing // it is due to the file or the user, and would be the next time
	case (process == "sender" || process == "") && startsWith(text, reading) && !slices.Contains(gone, errno):
		return missing
	}
	return fatal
}

// gone are the errors of a filesystem that went away, however few files told of it.
var gone = []unix.Errno{unix.ENOTCONN, unix.ESTALE, unix.ENODEV, unix.ENXIO, unix.ESHUTDOWN, unix.EHOSTDOWN,
	unix.EHOSTUNREACH, unix.ETIMEDOUT}

// errnoOf gives the errno of a complaint, or 0.
func errnoOf(match []string) unix.Errno {
	if match == nil {
		return 0
	}
	n, _ := strconv.Atoi(match[3])
	return unix.Errno(n)
}

func startsWith(text string, starts []string) bool {
	return slices.ContainsFunc(starts, func(start string) bool { return strings.HasPrefix(text, start) })
}

// isRoot tells that a line is about the source as a whole.
func (c *complaints) isRoot(line string) bool {
	_, name, found := strings.Cut(line, `"`)
	end := strings.LastIndexByte(name, '"')
	if !found || end < 0 || !strings.HasPrefix(line, "rsync: ") && !strings.Contains(line, " has vanished: ") {
		return false
	}
	about := strings.HasPrefix(line, "directory has vanished: ")
	if m := complaint.FindStringSubmatch(line); m != nil && (m[1] == "" || m[1] == "sender") {
		about = startsWith(m[2], []string{"change_dir", "opendir ", "link_stat ", "readlink_stat(", "readdir("})
	}
	return about && path.Clean("/"+name[:end]) == path.Clean("/"+c.root)
}

// escaped writes a name as rsync's messages do in the C locale (rsync/log.c: filtered_fwrite).
func escaped(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if ch := name[i]; ch != '\t' && (ch < ' ' || ch > '~') || looksEscaped.MatchString(name[i:]) {
			fmt.Fprintf(&b, `\#%03o`, ch)
		} else {
			b.WriteByte(ch)
		}
	}
	return b.String()
}

var looksEscaped = regexp.MustCompile(`^\\#[0-9]{3}`)
