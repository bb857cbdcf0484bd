package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"btrfs-backup/btrfs"
	"btrfs-backup/internal/tree"
)

// A folder of trees on a machine without this program is kept as package tree keeps it, so that the program goes on with it
// once it is there. What takes the program is left out: there are no manifests, and equal files do not share their space.

var _ Trees = (*Shell)(nil)

// OpenTrees opens a folder of backups of directory trees, on any filesystem.
func (s *Shell) OpenTrees(ctx context.Context, path string, o tree.OpenOptions) (TreeDir, error) {
	create := ""
	if o.Create {
		create = "1"
	}
	a, err := s.run(ctx, "opening", scriptTreesOpen, nil, path, o.MountPoint, create)
	if err != nil {
		return nil, at("open", path, told(err))
	}
	if err := mountFailure(a.next(), path, o.MountPoint); err != nil {
		return nil, err
	}
	place, err := readPlace(&a, path)
	if err == nil && !place.Btrfs {
		err = place.identify(string(a.rest))
	}
	if err != nil {
		return nil, at("open", path, err)
	}
	return &shellDir{host: s, place: place}, nil
}

// mountFailure is what scriptTreesOpen finds wrong.
func mountFailure(found, path, mountPoint string) error {
	var err error
	switch found {
	case "missing":
		err = fmt.Errorf("opening %s: %s is %w: it does not exist", path, mountPoint, tree.ErrNotMounted)
	case "unmounted":
		err = fmt.Errorf("opening %s: %s is %w", path, mountPoint, tree.ErrNotMounted)
	case "outside":
		return withHint{fmt.Errorf("opening %s: what is mounted at %s is %w there", path, mountPoint, tree.ErrNotMounted),
			"choose a folder inside " + mountPoint + "; nothing was written"}
	default:
		return nil
	}
	return withHint{err, "mount it and try again; nothing was written"}
}

// identify makes up the place of a directory where there are no subvolumes. It means nothing elsewhere.
func (p *shellPlace) identify(status string) error {
	var device uint64
	if _, err := fmt.Sscan(status, &device, &p.Place.Inode); err != nil {
		return fmt.Errorf("its device cannot be read from %q: %w", status, err)
	}
	p.device = "device-" + strconv.FormatUint(device, 10)
	binary.BigEndian.PutUint64(p.Place.Filesystem[:], device)
	return nil
}

// Rsync makes the machine reachable for an rsync on this one.
func (s *Shell) Rsync(ctx context.Context) (*RsyncLink, error) {
	return rsyncShell(ctx, s.ssh, s.options.Sudo)
}

// A treeFolder is all that one session told of a folder.
type treeFolder struct {
	*shellDir
	tree.Listing
	boot       string
	unfinished tree.Unfinished
	isDir      map[string]bool            // of all entries; symbolic links are none
	subvolumes map[string]btrfs.Subvolume // of the directories
	records    map[string]tree.Record     // whatever they are about
}

// look reads everything anew.
func (d *shellDir) look(ctx context.Context) (*treeFolder, error) {
	a, err := d.host.run(ctx, "listing", scriptTreesList, nil, d.arguments()...)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", d.place.Path, told(err))
	}
	f := &treeFolder{shellDir: d}
	if err := f.read(&a); err != nil {
		return nil, fmt.Errorf("listing %s: %w", d.place.Path, err)
	}
	f.classify()
	return f, nil
}

// read reads what scriptTreesList prints.
func (f *treeFolder) read(a *printed) error {
	p, err := readPlace(a, f.place.Path)
	if err != nil {
		return err
	}
	f.Btrfs, f.Free = p.Btrfs, p.free
	id, idErr := a.file().Read()
	unfinished, unfinishedErr := a.file().Read()
	if err := errors.Join(idErr, unfinishedErr); err != nil {
		return err
	}
	f.ID = strings.TrimSpace(string(id))
	f.readUnfinished(unfinished)
	f.boot = strings.TrimSpace(a.next())
	f.readRecords(a)
	f.isDir = make(map[string]bool)
	for entry := a.next(); entry != ""; entry = a.next() {
		f.isDir[path.Base(entry)] = false
	}
	for entry := a.next(); entry != ""; entry = a.next() {
		f.isDir[path.Base(entry)] = true
	}
	if p.Btrfs {
		err = f.readSubvolumes(a, p)
	}
	if end := a.next(); end != "end" && a.err == nil {
		a.err = errIncomplete
	}
	return cmp.Or(a.err, err)
}

// readUnfinished reads the list of hidden directories. A damaged one is as none: without a proof, nothing is ours.
func (f *treeFolder) readUnfinished(content []byte) {
	f.unfinished = make(tree.Unfinished)
	if content == nil {
		return
	}
	list := make(tree.Unfinished)
	if err := json.Unmarshal(content, &list); err != nil || list == nil {
		f.host.options.Log.Warn(fmt.Sprintf("%s is damaged: %v; hidden directories in %s are left alone",
			f.pathOf(tree.StateDir+"/"+tree.UnfinishedFile), err, f.place.Path))
		return
	}
	f.unfinished = list
}

// readRecords reads the records. One that cannot be understood, or is of another name, is none.
func (f *treeFolder) readRecords(a *printed) {
	f.records = make(map[string]tree.Record)
	for file := a.next(); file != ""; file = a.next() {
		content := a.file().Content
		name := strings.TrimSuffix(file, tree.RecordEnd)
		var r tree.Record
		err := json.Unmarshal(content, &r)
		if err == nil && r.Name != name {
			err = fmt.Errorf("it is about %q", r.Name)
		}
		if err != nil {
			f.host.options.Log.Warn(fmt.Sprintf("%s is damaged: %v", f.pathOf(tree.StateDir+"/"+tree.RecordFile(name)), err))
			continue
		}
		f.records[name] = r
	}
}

// readSubvolumes reads the lists of all subvolumes and the read-only ones.
func (f *treeFolder) readSubvolumes(a *printed, p shellPlace) error {
	rows, err := parseRows(a.next(), a.next())
	f.subvolumes = make(map[string]btrfs.Subvolume)
	for _, r := range rows {
		name, below := strings.CutPrefix(r.path, p.within)
		if below && r.Container == p.Place.Subvolume && f.isDir[name] {
			f.subvolumes[name] = r.Subvolume
		}
	}
	return err
}

// classify puts the entries of the folder where they belong in the listing.
func (f *treeFolder) classify() {
	for _, name := range slices.Sorted(maps.Keys(f.isDir)) {
		switch _, isUnfinished := f.unfinished[name]; {
		case name == tree.StateDir:
		case isUnfinished:
			f.Leftovers = append(f.Leftovers, name)
		case f.isBackup(name):
			f.Backups = append(f.Backups, f.records[name])
		default:
			f.Others = append(f.Others, name)
		}
	}
	slices.SortFunc(f.Backups, tree.Record.Compare)
}

// isBackup tells whether there is a record of what stands under the name.
func (f *treeFolder) isBackup(name string) bool {
	r, ok := f.records[name]
	if !ok || !f.isDir[name] || tree.CheckName(name) != nil {
		return false
	}
	s := f.subvolumes[name]
	return r.Subvolume == "" || s.ReadOnly && s.UUID.String() == r.Subvolume
}

// idOf is the ID of a subvolume for scripts, "" for what is none.
func (f *treeFolder) idOf(name string) string {
	s, ok := f.subvolumes[name]
	if !ok {
		return ""
	}
	return strconv.FormatUint(s.ID, 10)
}

// checkFree refuses a name that the folder has already: that is fs.ErrExist.
func (f *treeFolder) checkFree(name string) error {
	if _, taken := f.isDir[name]; taken {
		return fmt.Errorf("%s: %w", f.pathOf(name), fs.ErrExist)
	}
	return nil
}

// checkHiddenFree refuses a hidden name that something else uses.
func (f *treeFolder) checkHiddenFree(hidden string) error {
	if err := f.checkFree(hidden); err != nil {
		return withHint{err, "something else made it: remove it if it is of no use, or move it away"}
	}
	return nil
}

// ListTrees lists the folder, in one round trip.
func (d *shellDir) ListTrees(ctx context.Context) (tree.Listing, error) {
	f, err := d.look(ctx)
	if err != nil {
		return tree.Listing{}, err
	}
	return f.Listing, nil
}

// MarkTrees gives the folder its identity.
func (d *shellDir) MarkTrees(ctx context.Context) (id string, err error) {
	f, err := d.look(ctx)
	if err != nil {
		return "", err
	}
	if f.ID != "" {
		return f.ID, nil
	}
	var random btrfs.UUID
	rand.Read(random[:])
	random[6] = random[6]&0x0f | 0x40 // RFC 9562: version 4
	random[8] = random[8]&0x3f | 0x80 // and its variant
	if err := d.writeState(ctx, tree.IDFile, []byte(random.String()+"\n")); err != nil {
		return "", fmt.Errorf("marking %s: %w", d.place.Path, err)
	}
	return random.String(), nil
}

// needsProgram is the refusal of what scripts cannot do.
func (d *shellDir) needsProgram(what string) error {
	return withHint{fmt.Errorf("%s %s needs btrfs-backup on %s", what, d.place.Path, d.host),
		"install it there, such as with: scp btrfs-backup root@HOST:/usr/local/sbin/"}
}

// VerifyTree is refused: nothing is known here of what the backup held.
func (d *shellDir) VerifyTree(context.Context, string, tree.VerifyOptions, func(tree.Difference), func(read, total int64)) (tree.Verified, error) {
	return tree.Verified{}, d.needsProgram("verifying backups in")
}

// ExportTree is refused.
func (d *shellDir) ExportTree(context.Context, string, io.Writer) error {
	return d.needsProgram("exporting the checksums of backups in")
}

// IndexTrees is refused.
func (d *shellDir) IndexTrees(context.Context, tree.IndexOptions) (tree.Indexed, error) {
	return tree.Indexed{}, d.needsProgram("indexing")
}

// FollowTree does nothing: no manifest is written here.
func (d *shellDir) FollowTree(context.Context, string) error { return nil }
