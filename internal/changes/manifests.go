package changes

import (
	"io"

	"btrfs-backup/internal/manifest"
)

// Manifests gives the changes between two trees that manifests describe, sorted by Compare. What has another path was deleted and
// created.
func Manifests(older, newer io.Reader) ([]Change, error) {
	before, err := newSide(older)
	if err != nil {
		return nil, err
	}
	defer before.Close()
	after, err := newSide(newer)
	if err != nil {
		return nil, err
	}
	defer after.Close()
	var all []Change
	for before.err == nil || after.err == nil {
		order := 0
		switch {
		case before.err != nil:
			order = 1
		case after.err != nil:
			order = -1
		default:
			order = manifest.Compare(before.Path, after.Path)
		}
		if order == 0 && before.Type != after.Type {
			order = -1 // and then the other one, behind it
		}
		all = add(all, order, before.Entry, after.Entry)
		if order <= 0 {
			before.next()
		}
		if order >= 0 {
			after.next()
		}
	}
	for _, s := range []*side{before, after} {
		if s.err != io.EOF {
			return nil, s.err
		}
	}
	return all, nil
}

// add adds a change: what was deleted, if order is negative, or created, if it is positive, or what differs, if anything does.
func add(all []Change, order int, was, is manifest.Entry) []Change {
	switch {
	case order < 0:
		return append(all, Change{Kind: Deleted, Path: was.Path, Type: was.Type, Was: was.Size})
	case order > 0:
		return append(all, Change{Kind: Created, Path: is.Path, Type: is.Type, Is: is.Size})
	}
	c := Change{Kind: Modified, Path: is.Path}
	c.compare(&inode{}, was, is)
	c.Content = c.Content || was.Target != is.Target || !sameContent(was, is)
	c.Metadata = was.Mode != is.Mode || was.UID != is.UID || was.GID != is.GID || was.Device != is.Device || was.Xattrs != is.Xattrs
	if !c.differs() {
		return all
	}
	return append(all, c)
}

// sameContent compares digests. Where one is missing, or of another kind, size and time must do.
func sameContent(was, is manifest.Entry) bool {
	if was.Type != manifest.Regular {
		return true
	}
	if was.SHA256 == (manifest.Digest{}) || is.SHA256 == (manifest.Digest{}) || was.Sparse != is.Sparse {
		return was.Size == is.Size && was.ModTime == is.ModTime
	}
	return was.SHA256 == is.SHA256
}

// A side is a manifest at one of its entries.
type side struct {
	*manifest.Reader
	manifest.Entry
	err error // io.EOF behind the last one
}

func newSide(r io.Reader) (*side, error) {
	reader, err := manifest.NewReader(r)
	if err != nil {
		return nil, err
	}
	s := &side{Reader: reader}
	s.next()
	return s, nil
}

func (s *side) next() { s.Entry, s.err = s.Reader.Next() }
