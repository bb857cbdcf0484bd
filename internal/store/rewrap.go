package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// recipientsID identifies the recipients: those of this machine or, if it has none, those that the store tells of. It is the same for the
// same public keys in any order.
func (s *Store) recipientsID() string {
	texts := s.Recipients.Texts()
	if len(texts) == 0 {
		texts = slices.Clone(s.listed)
	}
	slices.Sort(texts)
	sum := blake2b.Sum256([]byte(strings.Join(texts, "\n")))
	return hex.EncodeToString(sum[:8])
}

// IsFor tells that a backup certainly is encrypted for the recipients, and for nobody else.
func (s *Store) IsFor(b *Backup) bool { return b.For == s.recipientsID() }

// Rewrap stores a backup once more, in another directory, so that the recipients can read it, and gives the copy. The content stays as it
// is, and only what wraps its keys is made anew. What an earlier attempt copied is not copied again.
func (s *Store) Rewrap(ctx context.Context, source string, b *Backup, ids seal.Identities) (_ *Backup, err error) {
	if len(b.Faults) > 0 {
		return nil, hint.New(fmt.Errorf("%s of %s lacks something: %s", b.Name, s, b.Faults[0]), "`btrfs-backup verify` tells all that is wrong")
	}
	j, err := s.openJournal(s.journalPath("rewrap "+b.Dir+s.recipientsID()), source, b.Name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.file.Close())
		}
	}()
	r := rewrapper{Store: s, journal: j, ids: ids, classes: make(map[string]string)}
	if b.Locked.After(time.Now()) {
		r.until = b.Locked
	}
	m := b.Manifest
	if err := r.look(ctx, b.Dir); err != nil {
		return nil, err
	}
	if m.Parts, err = r.parts(ctx, b.Dir, dataName, b.Parts); err != nil {
		return nil, err
	}
	if m.Names, err = r.parts(ctx, b.Dir, namesName, b.Names); err != nil {
		return nil, err
	}
	if m.Sealed, err = r.rewrap(b.Sealed); err != nil {
		return nil, fmt.Errorf("reading the manifest of %s: %w", b.Name, err)
	}
	m.Dir, m.Signer, m.For, m.Locked = j.dir, s.Signer.PublicKey(), s.recipientsID(), r.until
	if err := s.commit(ctx, source, &m); err != nil {
		return nil, err
	}
	return &Backup{Manifest: m, Committed: time.Now()}, j.remove()
}

// A rewrapper copies the objects of a backup.
type rewrapper struct {
	*Store
	journal *journal
	ids     seal.Identities
	there   map[string]int64  // sizes of what was copied, by key
	classes map[string]string // storage classes of the objects, by key
	until   time.Time
}

// look looks for what is there, and what was copied.
func (r *rewrapper) look(ctx context.Context, old string) (err error) {
	if err = r.bucket.List(ctx, old, func(i object.Info) error { r.classes[i.Key] = i.Class; return nil }); err == nil {
		r.there, err = r.sizes(ctx, r.journal.dir)
	}
	return err
}

func (r *rewrapper) rewrap(content []byte) ([]byte, error) {
	reader, err := seal.Rewrap(bytes.NewReader(content), r.Recipients, r.ids)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

// parts copies objects of a kind, and tells what became of them.
func (r *rewrapper) parts(ctx context.Context, old, kind string, parts []Part) ([]Part, error) {
	made := slices.Clone(parts)
	err := InParallel(len(parts), func(n int) (err error) {
		made[n], err = r.part(ctx, anObject{partKey(old, kind, n), parts[n]}, partKey(r.journal.dir, kind, n))
		return err
	})
	return made, err
}

func (r *rewrapper) part(ctx context.Context, o anObject, key string) (made Part, err error) {
	if e, known := r.journal.of(key); known && bytes.Equal(e.Plain, o.SHA256) && r.there[key] == e.Size && e.Size > 0 {
		return Part{e.Size, e.SHA256, o.Plain}, nil
	}
	content, err := r.fetch(ctx, o)
	if err != nil {
		return made, err
	}
	if content, err = r.rewrap(content); err != nil {
		return made, fmt.Errorf("reading %s: %w", path.Base(o.key), err)
	}
	digest := sha256.Sum256(content)
	made = Part{int64(len(content)), digest[:], o.Plain}
	if err := r.journal.write(entry{Key: key, Plain: o.SHA256, Length: o.Plain, Size: made.Size, SHA256: made.SHA256}); err != nil {
		return made, err
	}
	if err := r.putOnce(ctx, key, content, object.PutOptions{Until: r.until, Class: r.classes[o.key]}); err != nil {
		return made, err
	}
	failpoint.Reach("stored")
	return made, nil
}

// Announce tells in the store for whom it is encrypted from now on.
func (s *Store) Announce(ctx context.Context) error {
	if err := s.putCanary(ctx); err != nil {
		return err
	}
	content, err := format{Version: version, ID: s.ID, Recipients: s.Recipients.Texts()}.encode()
	if err != nil {
		return err
	}
	err = s.bucket.Put(ctx, formatKey, content, object.PutOptions{Replace: true})
	if errors.Is(err, fs.ErrPermission) {
		s.Log.Info(fmt.Sprintf("%s: the format goes on telling of other recipients: %v", s, err))
		return nil
	}
	if err == nil {
		s.format = content
	}
	return err
}
