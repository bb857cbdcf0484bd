package changes

import (
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// Manifests tells the changes between two trees that manifests describe, by path. What has another path was deleted and created. If
// there is an error, what was told is not all.
func Manifests(older, newer io.Reader, each func(Change)) error {
	before, err := newSide(older)
	if err != nil {
		return err
	}
	defer before.Close()
	after, err := newSide(newer)
	if err != nil {
		return err
	}
	defer after.Close()
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
		if c := between(order, before.Entry, after.Entry); c.Kind != "" {
			each(c)
		}
		if order <= 0 {
			before.next()
		}
		if order >= 0 {
			after.next()
		}
	}
	for _, s := range []*side{before, after} {
		if s.err != io.EOF {
			return s.err
		}
	}
	return nil
}

// between gives a change: what was deleted, if order is negative, or created, if it is positive, or what differs, if anything does.
func between(order int, was, is manifest.Entry) Change {
	switch {
	case order < 0:
		return Change{Kind: Deleted, Path: was.Path, Type: was.Type, Was: was.Size}
	case order > 0:
		return Change{Kind: Created, Path: is.Path, Type: is.Type, Is: is.Size}
	}
	c := Change{Kind: Modified, Path: is.Path}
	c.compare(&inode{}, was, is)
	c.Content = c.Content || was.Target != is.Target || !sameContent(was, is)
	c.Metadata = was.Mode != is.Mode || was.UID != is.UID || was.GID != is.GID || was.Device != is.Device || was.Xattrs != is.Xattrs
	if !c.differs() {
		return Change{}
	}
	return c
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
