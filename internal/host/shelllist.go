package host

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"btrfs-backup/btrfs"
)

// topLevel is the ID of the subvolume that holds all others.
const topLevel = 5 // linux/btrfs_tree.h: BTRFS_FS_TREE_OBJECTID

// rootInode is the inode number of the root of a subvolume.
const rootInode = 256

// shellPlace is an open directory of a Shell.
type shellPlace struct {
	Status
	within string // its path in its subvolume: empty for the root, else with a slash at the end
	free   uint64
	device string // where there are no subvolumes, of folders of trees: "device-" and its number
}

// readPlace reads what `describe` prints.
func readPlace(a *printed, dir string) (p shellPlace, err error) {
	p.Status = Status{Path: dir, Privileged: a.next() == "0"}
	var blocks, size uint64
	if _, err := fmt.Sscan(a.next(), &blocks, &size); err != nil {
		return p, fmt.Errorf("the free space cannot be read: %w", cmp.Or(a.err, err))
	}
	p.free = blocks * size
	id := a.next()
	if a.err != nil || id == "" {
		return p, a.err
	}
	p.Btrfs = true
	var idErr, uuidErr, withinErr error
	p.Place.Subvolume, idErr = strconv.ParseUint(id, 10, 64)
	p.Place.Inode = a.number()
	p.Place.Filesystem, uuidErr = scrubUUID(a.next())
	p.within, withinErr = inodePath(a.next(), dir, p.Place.Inode)
	if err := errors.Join(a.err, idErr, uuidErr, withinErr); err != nil {
		return p, err
	}
	p.IsRoot = p.Place.Inode == rootInode
	p.Subvolume, err = readSubvolume(a, p.Place.Subvolume)
	return p, err
}

// scrubUUID reads the UUID of the filesystem above the status of a scrub.
func scrubUUID(status string) (uuid btrfs.UUID, err error) {
	line, _, _ := strings.Cut(status, "\n")
	text, ok := strings.CutPrefix(line, "UUID:")
	if !ok {
		return uuid, fmt.Errorf("`btrfs scrub status` tells no UUID but %q", line)
	}
	err = uuid.UnmarshalText([]byte(strings.TrimSpace(text)))
	return uuid, err
}

// inodePath reads the path from the root of a subvolume that `btrfs inspect-internal inode-resolve` prints behind the path of
// dir. It is empty for the root, else it ends in a slash.
func inodePath(resolved, dir string, inode uint64) (string, error) {
	if inode == rootInode {
		return "", nil
	}
	path, ok := strings.CutPrefix(strings.TrimSuffix(resolved, "\n"), dir+"/")
	if !ok || path == "" {
		return "", fmt.Errorf("the place of the directory in its subvolume cannot be read from %q", resolved)
	}
	return path + "/", nil
}

// readSubvolume reads what `describe_subvolume` prints.
func readSubvolume(a *printed, id uint64) (btrfs.Subvolume, error) {
	all, readOnly := a.next(), a.next()
	if a.err != nil {
		return btrfs.Subvolume{}, a.err
	}
	if id == topLevel {
		return readTopLevel(all)
	}
	rows, err := parseRows(all, readOnly)
	if err == nil && (len(rows) != 1 || rows[0].ID != id) {
		err = fmt.Errorf("subvolume %d cannot be found in %q", id, all)
	}
	if err != nil {
		return btrfs.Subvolume{}, err
	}
	return rows[0].Subvolume, nil
}

// readTopLevel reads what `btrfs subvolume show` tells of the top level, whose own path and name are constant.
func readTopLevel(shown string) (btrfs.Subvolume, error) {
	s := btrfs.Subvolume{ID: topLevel}
	values := make(map[string]string)
	for line := range strings.Lines(shown) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if _, again := values[key]; ok && !again {
			values[key] = strings.TrimSpace(value)
		}
	}
	if values["Subvolume ID"] != strconv.Itoa(topLevel) {
		return s, fmt.Errorf("`btrfs subvolume show` does not tell of the top level but %q", shown)
	}
	changed, err := strconv.ParseUint(values["Generation"], 10, 64)
	s.ChangedIn = changed
	s.ReadOnly = values["Flags"] == "readonly"
	return s, errors.Join(err, parseUUID(&s.UUID, values["UUID"]))
}

// A row is a line of `btrfs subvolume list`.
type row struct {
	btrfs.Subvolume
	path string
}

// btrfs-progs, cmds/subvolume-list.c: print_one_subvol_info_default
var rowStart = regexp.MustCompile(`^ID (\d+) gen (\d+) cgen (\d+) parent (\d+) top level \d+ ` +
	`parent_uuid (\S+) +received_uuid (\S+) +uuid (\S+) +path `)

// parseRows reads the lists of all subvolumes and of the read-only ones. A line that does not begin like a row goes on with
// the path of the last one.
//
// A name may hold a line like a row, which then is one too many: with an ID or a path that is there twice, or in another
// order. That is an error.
func parseRows(all, readOnly string) ([]row, error) {
	rows, err := parseList(all)
	if err != nil {
		return nil, err
	}
	ro, err := parseList(readOnly)
	if err != nil {
		return nil, err
	}
	known := make(map[uint64]int, len(rows))
	for i, r := range rows {
		known[r.ID] = i
	}
	for _, r := range ro {
		if i, ok := known[r.ID]; ok && rows[i].UUID == r.UUID { // it is not if it was made in between
			rows[i].ReadOnly = true
		}
	}
	return rows, nil
}

func parseList(text string) ([]row, error) {
	var rows []row
	for line := range strings.Lines(text) {
		match := rowStart.FindStringSubmatch(line)
		if match == nil {
			if len(rows) == 0 {
				return nil, fmt.Errorf("`btrfs subvolume list` cannot be read at %q", line)
			}
			rows[len(rows)-1].path += line
			continue
		}
		r, err := parseRow(match)
		if err != nil {
			return nil, err
		}
		r.path = line[len(match[0]):]
		rows = append(rows, r)
	}
	return rows, checkRows(rows)
}

// checkRows gives the rows their names and refuses those that cannot all be true.
func checkRows(rows []row) error {
	type place struct {
		container uint64
		path      string
	}
	taken := make(map[place]bool, len(rows))
	for i := range rows {
		r := &rows[i]
		r.path = strings.TrimSuffix(r.path, "\n")
		r.Name = path.Base(r.path)
		at := place{r.Container, r.path}
		// btrfs lists in the order of the IDs
		if i > 0 && r.ID <= rows[i-1].ID || taken[at] {
			return withHint{fmt.Errorf("the list of subvolumes is ambiguous at %q", r.path),
				"a subvolume has a name with a line break in it, which looks like another subvolume: rename it"}
		}
		taken[at] = true
	}
	return nil
}

func parseRow(match []string) (r row, err error) {
	for i, number := range []*uint64{&r.ID, &r.ChangedIn, &r.CreatedIn, &r.Container} {
		n, convErr := strconv.ParseUint(match[1+i], 10, 64)
		*number, err = n, errors.Join(err, convErr)
	}
	for i, uuid := range []*btrfs.UUID{&r.ParentUUID, &r.ReceivedUUID, &r.UUID} {
		err = errors.Join(err, parseUUID(uuid, match[5+i]))
	}
	return r, err
}

func parseUUID(to *btrfs.UUID, text string) error {
	if text == "-" {
		return nil
	}
	return to.UnmarshalText([]byte(text))
}

// readContent reads what `contents` prints.
func readContent(a *printed, p shellPlace) (c Content, err error) {
	c.Free = p.free
	rows, err := parseRows(a.next(), a.next())
	if err != nil {
		return Content{}, err
	}
	here := make(map[string]bool)
	for entry := a.next(); entry != ""; entry = a.next() {
		here[path.Base(entry)] = true
	}
	for _, r := range rows {
		// the path of what lies in the same subvolume as the directory begins there
		name, below := strings.CutPrefix(r.path, p.within)
		if below && r.Container == p.Place.Subvolume && !strings.Contains(name, "/") && here[name] {
			r.DirID = p.Place.Inode
			c.InDirectory = append(c.InDirectory, r.Subvolume)
		}
		c.All = append(c.All, r.Subvolume)
	}
	c.Ledger, c.Origins = a.file(), a.file()
	c.Sizes = parseSizes(a.next())
	if a.err == nil && len(bytes.TrimSpace(a.rest)) > 0 {
		a.err = errIncomplete
	}
	if a.err != nil {
		return Content{}, a.err
	}
	return c, nil
}

// parseSizes reads `btrfs qgroup show --raw`: rows of an ID such as 0/257, and two sizes. Others are headings.
func parseSizes(text string) map[uint64]btrfs.Size {
	var sizes map[uint64]btrfs.Size
	for line := range strings.Lines(text) {
		var id uint64
		var size btrfs.Size
		if n, _ := fmt.Sscanf(line, "0/%d %d %d", &id, &size.Referenced, &size.Exclusive); n == 3 {
			if sizes == nil {
				sizes = make(map[uint64]btrfs.Size)
			}
			sizes[id] = size
		}
	}
	return sizes
}
