package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// A Manifest tells what a backup is, and of what objects it consists. Whoever can read the bucket can read it, but for what is sealed.
type Manifest struct {
	Version    int        `json:"version"`
	Dir        string     `json:"dir"` // of its objects, and of the manifest itself
	Name       string     `json:"name"`
	UUID       btrfs.UUID `json:"uuid"`    // of the snapshot, as it stands in the stream
	TransID    uint64     `json:"transid"` // of the snapshot, when it was sent
	Parent     btrfs.UUID `json:"parent,omitzero"`
	ParentID   uint64     `json:"parent_transid,omitempty"`
	Source     btrfs.UUID `json:"source,omitzero"`    // the subvolume of which the snapshot was taken
	Made       time.Time  `json:"made"`               // by the clock of the machine that stored it
	Sequence   uint64     `json:"sequence,omitempty"` // greater than those that its machine knew, whatever clocks tell; 0: an earlier version stored it
	Protocol   int        `json:"protocol"`
	Bytes      int64      `json:"bytes"`           // of the stream
	Locked     time.Time  `json:"locked,omitzero"` // until then the server was told to let nobody delete the objects
	Parts      []Part     `json:"parts"`
	Names      []Part     `json:"names,omitempty"`
	Sealed     []byte     `json:"sealed"`               // a Private, encrypted
	Set        []string   `json:"set,omitempty"`        // names in the store of the sources of all members, itself included, if the source is one of a set
	Attributes bool       `json:"attributes,omitempty"` // those of files that no stream holds are in Sealed
	For        string     `json:"for,omitempty"`        // identifies the recipients, see recipientsID
	Signer     string     `json:"signer"`               // public key of the machine that stored it
}

// A Part is an object that holds a piece of the stream.
type Part struct {
	Size   int64  `json:"size"`   // bytes of the object
	SHA256 []byte `json:"sha256"` // of the object
	Plain  int64  `json:"plain"`  // bytes of the stream in it
}

// Private is what only the recipients can read.
type Private struct {
	Host       string `json:"host,omitempty"`
	Path       string `json:"path,omitempty"` // of the source
	Machine    string `json:"machine,omitempty"`
	Via        string `json:"via,omitempty"`     // machine and path of the folder of backups that it was sent on from
	Program    string `json:"program,omitempty"` // version of this one
	Kernel     string `json:"kernel,omitempty"`
	Stream     []byte `json:"stream"`               // XXH3 of 128 bits of the stream, big-endian
	Attributes []byte `json:"attributes,omitempty"` // those of files that no stream holds, as attributes.List encodes them
}

// Full tells that the backup is complete by itself.
func (m *Manifest) Full() bool { return m.Parent.IsZero() }

// Stored gives the bytes of all objects but the manifest.
func (m *Manifest) Stored() (bytes int64) {
	for _, parts := range [][]Part{m.Parts, m.Names} {
		for _, p := range parts {
			bytes += p.Size
		}
	}
	return bytes
}

// Private reads what only recipients can.
func (m *Manifest) Private(ids seal.Identities) (p Private, err error) {
	r, err := ids.Decrypt(bytes.NewReader(m.Sealed))
	if err != nil {
		return p, err
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(content, &p)
}

func (s *Store) sealPrivate(p Private) ([]byte, error) {
	content, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return s.Recipients.Seal(content)
}

// encode gives the object: the line that is signed, and its signature.
func (s *Store) encode(m *Manifest) ([]byte, error) {
	line, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(append(line, '\n'), s.Signer.Sign(line, m.Dir)...), nil
}

// ErrForeign says that no key that this machine trusts signed a manifest.
var ErrForeign = errors.New("no key that this machine knows signed it")

// decode reads the manifest of a directory.
func (s *Store) decode(dir string, content []byte) (*Manifest, error) {
	line, signature, _ := bytes.Cut(content, []byte("\n"))
	m := new(Manifest)
	if err := json.Unmarshal(line, m); err != nil {
		return nil, fmt.Errorf("the manifest %w", ErrDamaged)
	}
	if err := seal.Verify(m.Signer, line, signature); err != nil {
		return nil, fmt.Errorf("the manifest %w, or forged: %w", ErrDamaged, err)
	}
	switch {
	case s.Trusts != nil && !s.Trusts(m.Signer):
		return nil, ErrForeign
	case m.Version != version:
		return nil, fmt.Errorf("the manifest has the format %d, and this program knows %d", m.Version, version)
	case m.Dir != dir:
		return nil, fmt.Errorf("the manifest is that of %s", m.Dir)
	case m.UUID.IsZero() || len(m.Parts) == 0:
		return nil, errors.New("the manifest tells of nothing")
	}
	return m, nil
}
