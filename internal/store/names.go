package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// Names are the stream of a backup without the content of files, part by part.
type Names struct {
	of      *Manifest
	objects [][]byte // as they are stored
	ids     seal.Identities
}

// Names fetches them.
func (s *Store) Names(ctx context.Context, m *Manifest, ids seal.Identities) (*Names, error) {
	n := &Names{of: m, ids: ids, objects: make([][]byte, len(m.Names))}
	for i, p := range m.Names {
		var err error
		if n.objects[i], err = s.fetch(ctx, anObject{partKey(m.Dir, namesName, i), p}); err != nil {
			return nil, &PartError{m, err}
		}
	}
	return n, nil
}

// Visit gives the commands of each part: an UPDATE_EXTENT stands for data of a file.
func (n *Names) Visit(visit func(part int, commands []byte) error) error {
	damaged := fmt.Errorf("the names of %s %w", n.of.Name, ErrDamaged)
	next := 0
	for _, object := range n.objects {
		plain, err := readAll(object, n.ids)
		if err != nil {
			return fmt.Errorf("reading the names of %s: %w", n.of.Name, err)
		}
		for ; len(plain) > 0; next++ {
			const head = 8
			if len(plain) < head {
				return damaged
			}
			part, length := binary.LittleEndian.Uint32(plain), int(binary.LittleEndian.Uint32(plain[4:]))
			if part != uint32(next) || length > len(plain)-head {
				return damaged
			}
			if err := visit(next, plain[head:head+length]); err != nil {
				return err
			}
			plain = plain[head+length:]
		}
	}
	if next != len(n.of.Parts) {
		return damaged
	}
	return nil
}

// Part gives a part of the stream of a backup.
func (s *Store) Part(ctx context.Context, m *Manifest, n int, ids seal.Identities) ([]byte, error) {
	content, err := s.fetch(ctx, anObject{partKey(m.Dir, dataName, n), m.Parts[n]})
	if err != nil {
		return nil, &PartError{m, err}
	}
	plain, err := readAll(content, ids)
	if err == nil && int64(len(plain)) != m.Parts[n].Plain {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("reading part %d of %s: %w", n, m.Name, err)
	}
	return plain, nil
}

func readAll(content []byte, ids seal.Identities) ([]byte, error) {
	r, err := unpack(bytes.NewReader(content), ids)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
