package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// An index is that of a source, as it was read.
type index struct {
	sum       [sha256.Size]byte
	manifests map[string][]byte // by the directory
	lacking   map[string][]byte // that are there, and are not in the index, or damaged in it
}

func (i *index) lacks(dir string, manifest []byte) {
	if i.lacking == nil {
		i.lacking = make(map[string][]byte)
	}
	i.lacking[dir] = manifest
}

// readIndex reads the index of a source. One that cannot be read as such is as one without anything: it is a copy.
func (s *Store) readIndex(ctx context.Context, source string) (*index, error) {
	i := &index{manifests: make(map[string][]byte)}
	content, err := object.Read(ctx, s.bucket, object.Ref{Key: indexPrefix + source})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, object.ErrTooLarge) {
		return i, nil
	}
	if err != nil {
		return nil, err
	}
	i.sum = sha256.Sum256(content)
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := r.Next()
		if err != nil {
			return i, nil
		}
		manifest, err := io.ReadAll(r)
		if err != nil {
			return i, nil
		}
		if dir := path.Dir(header.Name) + "/"; path.Dir(path.Clean(dir)) == path.Clean(backupsPrefix+source) { // it may be that of another source
			i.manifests[dir] = manifest
		}
	}
}

// remember keeps what is known of the index of a source, for the next change of it.
func (s *Store) remember(source string, i *index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.indexes == nil {
		s.indexes = make(map[string]*index)
	}
	s.indexes[source] = i
}

// present gives the index of a source. It is not read again if it is what was read before.
func (s *Store) present(ctx context.Context, source string) (*index, error) {
	s.mu.Lock()
	known := s.indexes[source]
	s.mu.Unlock()
	if known == nil {
		return s.readIndex(ctx, source)
	}
	info, err := s.bucket.Stat(ctx, object.Ref{Key: indexPrefix + source})
	if err == nil && bytes.Equal(info.SHA256, known.sum[:]) {
		return known, nil
	}
	i, err := s.readIndex(ctx, source)
	if err == nil {
		i.lacking = known.lacking
	}
	return i, err
}

// changeIndex replaces the index of a source by what change makes of it, and adds what it lacked.
func (s *Store) changeIndex(ctx context.Context, source string, change func(manifests map[string][]byte)) error {
	old, err := s.present(ctx, source)
	if err != nil {
		return err
	}
	changed := &index{manifests: maps.Clone(old.manifests)}
	maps.Copy(changed.manifests, old.lacking)
	change(changed.manifests)
	content, err := changed.encode()
	if err != nil {
		return err
	}
	changed.sum = sha256.Sum256(content)
	if err := s.bucket.Put(ctx, indexPrefix+source, content, object.PutOptions{Replace: true}); err != nil {
		return err
	}
	s.remember(source, changed)
	return nil
}

// sequence gives that of the next backup of a source, as far as what was read last tells.
func (s *Store) sequence(ctx context.Context, source string) (next uint64, err error) {
	s.mu.Lock()
	known := s.indexes[source]
	s.mu.Unlock()
	if known == nil {
		if known, err = s.readIndex(ctx, source); err != nil {
			return 0, err
		}
	}
	for _, manifests := range []map[string][]byte{known.manifests, known.lacking} {
		for dir, content := range manifests {
			if m, err := s.decode(dir, content); err == nil {
				next = max(next, m.Sequence)
			}
		}
	}
	return next + 1, nil
}

// encode gives the object.
func (i *index) encode() ([]byte, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, dir := range slices.Sorted(maps.Keys(i.manifests)) {
		manifest := i.manifests[dir]
		err := w.WriteHeader(&tar.Header{Name: dir + manifestName, Mode: 0o600, Size: int64(len(manifest)), Format: tar.FormatPAX})
		if err == nil {
			_, err = w.Write(manifest)
		}
		if err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return content.Bytes(), err
}
