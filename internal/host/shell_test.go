package host

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

const (
	uuidA = "a4ffb9a3-ecce-694a-96be-4b3e24d4f15e"
	uuidB = "f1724a23-c542-de49-8e45-c4b9be628b46"
	// as printed by btrfs-progs 6.2
	rowA = "ID 256 gen 8 cgen 7 parent 5 top level 5 parent_uuid -                                    received_uuid " +
		"-                                    uuid " + uuidA + " path a\n"
	rowB = "ID 258 gen 9 cgen 8 parent 256 top level 256 parent_uuid " + uuidA + " received_uuid " + uuidA + " uuid " + uuidB +
		" path dir/with\nline  break\n\n"
)

func TestRowsOfTheListAreRead(t *testing.T) {
	rows, err := parseRows(rowA+rowB, rowB)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%+v, %v", rows, err)
	}
	a, b := rows[0], rows[1]
	if a.ID != 256 || a.ChangedIn != 8 || a.CreatedIn != 7 || a.Container != 5 || a.UUID.String() != uuidA || !a.ParentUUID.IsZero() ||
		!a.ReceivedUUID.IsZero() || a.Name != "a" || a.ReadOnly {
		t.Errorf("%+v", a)
	}
	if b.ParentUUID != a.UUID || b.ReceivedUUID != a.UUID || b.UUID.String() != uuidB || b.Name != "with\nline  break\n" || !b.ReadOnly {
		t.Errorf("%+v", b)
	}
}

func TestListsThatMayBeForgedAreRefused(t *testing.T) {
	forged := strings.Replace(rowA, "ID 256", "ID 257", 1)
	for name, text := range map[string]string{
		"the ID of another":   rowA + rowA,
		"in another order":    rowB + rowA,
		"the path of another": rowA + forged + rowB,
		"no row at first":     "WARNING: something\n" + rowA,
		"not a UUID":          strings.Replace(rowA, uuidA, "4711", 1),
		"too large a number":  strings.Replace(rowA, "ID 256", "ID 99999999999999999999", 1),
	} {
		if rows, err := parseRows(text, ""); err == nil {
			t.Errorf("%s: %+v", name, rows)
		}
		if rows, err := parseRows(rowA, text); err == nil {
			t.Errorf("%s among the read-only ones: %+v", name, rows)
		}
	}
	if rows, err := parseRows("", ""); err != nil || len(rows) > 0 {
		t.Errorf("an empty list: %+v, %v", rows, err)
	}
}

func TestAListThatBreaksOffIsNone(t *testing.T) {
	p := shellPlace{Status: Status{Path: "/d", Btrfs: true}}
	p.Place.Subvolume, p.Place.Inode = 5, rootInode
	gone := strings.NewReplacer("ID 256", "ID 257", "path a", "path gone").Replace(rowA)
	whole := rowA + gone + "\x00" + rowA + "\x00/d/./a\x00/d/./b\x00\x00" + "4\x00a\x00bc\x00" + "-\x00" + "0/256 4096 1024\n\x00"
	c, err := readContent(&printed{rest: []byte(whole)}, p)
	if err != nil || len(c.InDirectory) != 1 || string(c.Ledger.Content) != "a\x00bc" || c.Origins.Content != nil || c.Sizes[256].Exclusive != 1024 {
		t.Fatalf("%+v, %v", c, err)
	}
	for n := range whole {
		if c, err := readContent(&printed{rest: []byte(whole[:n])}, p); err == nil {
			t.Fatalf("after %d bytes: %+v", n, c)
		}
	}
}

func TestFailuresOfCommandsTellTheirErrno(t *testing.T) {
	s := NewShell(transport.NewSSH(transport.Target{Host: "nas"}, transport.SSHOptions{}), ShellOptions{})
	tests := []struct {
		state, stderr string
		want          error
		hint          string
	}{
		{"exit status 61", "", unix.ENOENT, ""},
		{"exit status 62", "", unix.EEXIST, ""},
		{"exit status 1", "/usr/bin/env: 'x': No such file or directory; tee: y: No space left on device", unix.ENOSPC, ""},
		{"exit status 1", "can't perform the search: Operation not permitted", unix.EPERM, "sudo"},
		{"exit status 1", "sudo: a password is required", nil, "NOPASSWD"},
		{"exit status 127", "sh: 12: btrfs: not found", nil, "install btrfs-progs on ssh://nas"},
		{"exit status 127", "sh: line 12: btrfs: command not found", nil, "install btrfs-progs"},
		{"exit status 127", "sh: sudo: not found", nil, "log in as root"},
	}
	for _, test := range tests {
		err := told(s.explain("writing", &transport.ExitError{Program: "sh", State: test.state, Stderr: test.stderr}))
		var hinter interface{ Hint() string }
		hint := ""
		if errors.As(err, &hinter) {
			hint = hinter.Hint()
		}
		if test.want != nil && !errors.Is(err, test.want) || !strings.Contains(hint, test.hint) || (hint == "") != (test.hint == "") {
			t.Errorf("%+v is %v, hint %q", test, err, hint)
		}
	}
}

func TestNoScriptNeedsMoreThanOneArgument(t *testing.T) {
	scripts := []string{scriptOpen, scriptList, scriptNested, scriptFormat, scriptLock, scriptTake, scriptDelete, scriptBtrfs, scriptReceive,
		scriptCommit, scriptAbort, scriptReplace, scriptLink, scriptSync, scriptMkdirAll, scriptTreesOpen, scriptTreesList, scriptTreesWrite,
		scriptTreesForget, scriptTreesTidy, scriptTreesMove, scriptTreesMake, scriptTreesReady, scriptTreesCount, scriptTreesName, scriptTreesRemove}
	const limit = 131072 // linux/binfmts.h: MAX_ARG_STRLEN, of which the names to delete take the most
	longest := len(slices.MaxFunc(scripts, func(a, b string) int { return len(a) - len(b) }))
	if line := 4*(longest+len(scriptStart))/3 + 4*maxNames; line > limit {
		t.Errorf("a line may take %d bytes", line)
	}
}
