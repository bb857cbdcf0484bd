// Package store keeps send streams in a bucket, so that each backup can be found, checked and deleted without a secret key, and read with
// one by hand.
//
//	format                                a line of JSON: version, ID of the store, public keys of the recipients; and its SHA-256
//	canary                                a text that is encrypted for all recipients, to try secret keys with
//	index/SOURCE                          tar of the manifests of a source
//	backups/SOURCE/NAME.ATTEMPT/data.N    parts of the stream: cut between commands, each zstd, then age
//	backups/SOURCE/NAME.ATTEMPT/names.N   the stream without data, for single files; zstd, then age
//	backups/SOURCE/NAME.ATTEMPT/manifest  what these are, and their SHA-256; signed
//
// So `for p in data.*; do age -d -i KEY $p; done | zstd -d | btrfs receive DIR` restores a backup.
//
// A manifest is a promise: it comes last, when all it tells of is stored. Without one, objects are what is left of an attempt that may
// go on. No key gets a second object but those of the index, which is a copy and can be made anew from the manifests. A manifest counts
// if a trusted key signed it: whoever can write to the bucket can put other things there, but no backup.
package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"

	"github.com/btrfs-backup/btrfs-backup/internal/failpoint"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// A Store is open. It is safe for concurrent use.
type Store struct {
	ID     string // identifies it, wherever it lies
	bucket object.Bucket
	Options
	format []byte     // the object
	listed Recipients // as its format tells

	mu      sync.Mutex
	indexes map[string]*index // as they were read or written last
}

// Recipients are public keys, as texts.
type Recipients []string

// Options tell how a store is used.
type Options struct {
	Log        *slog.Logger
	Recipients seal.Recipients          // for whom everything is encrypted; none where nothing is stored
	Signer     seal.Signer              // signs what is stored
	Trusts     func(signer string) bool // tells which public keys sign what counts; nil: all
	State      string                   // directory of this machine for what is to go on after a crash
	PartSize   int64                    // bytes of the stream in a part; 0: DefaultPartSize
}

// DefaultPartSize lets four parts be under way in 128 MiB of memory.
const DefaultPartSize = 16 << 20

// MinPartSize and MaxPartSize are the limits of a part: what stores charge by the request, and how much they take at once.
const (
	MinPartSize = 1 << 20
	MaxPartSize = 1 << 30
)

const (
	formatKey = object.FormatKey
	canaryKey = object.CanaryKey
	version   = 1
)

// format is the content of formatKey.
type format struct {
	Version    int        `json:"version"`
	ID         string     `json:"id"`
	Recipients Recipients `json:"recipients"`
}

// encode gives the object: a line, and one with its SHA-256, since nothing else tells whether the ID is right.
func (f format) encode() ([]byte, error) {
	line, err := json.Marshal(f)
	return fmt.Appendf(nil, "%s\n%x\n", line, sha256.Sum256(line)), err
}

func parseFormat(content []byte) (f format, err error) {
	line, sum, _ := bytes.Cut(content, []byte("\n"))
	if string(sum) != fmt.Sprintf("%x\n", sha256.Sum256(line)) {
		return f, hint.New(errors.New("is damaged, or does not tell of a store"),
			"bring it back from a copy; without it, each backup can still be restored by hand: age, zstd, btrfs receive")
	}
	if err := json.Unmarshal(line, &f); err != nil || f.ID == "" {
		return f, errors.New("does not tell of a store")
	}
	return f, nil
}

// Open opens a store. A bucket without one is fs.ErrNotExist.
func Open(ctx context.Context, b object.Bucket, o Options) (*Store, error) {
	var found object.Info
	err := b.List(ctx, formatKey, func(i object.Info) error {
		if i.Key == formatKey {
			found = i
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if found.Key == "" {
		return nil, fmt.Errorf("there is no store in %s: %w", b, fs.ErrNotExist)
	}
	content, err := object.Read(ctx, b, found.Ref)
	if err != nil {
		return nil, err
	}
	f, err := parseFormat(content)
	if err != nil {
		return nil, fmt.Errorf("%s of %s %w", formatKey, b, err)
	}
	if f.Version != version {
		return nil, hint.New(fmt.Errorf("the store in %s has the format %d, and this program knows %d", b, f.Version, version),
			"install a newer btrfs-backup")
	}
	s := &Store{ID: f.ID, bucket: b, Options: o, format: content, listed: f.Recipients}
	if found.Versions > 1 { // other recipients were told of since
		if content, err := object.Read(ctx, b, object.Ref{Key: formatKey}); err == nil {
			if newest, err := parseFormat(content); err == nil && newest.ID == f.ID {
				s.listed = newest.Recipients
			}
		}
	}
	return s, nil
}

// Create makes a store in a bucket that holds nothing, and opens it.
func Create(ctx context.Context, b object.Bucket, o Options) (*Store, error) {
	errFound := errors.New("found")
	err := b.List(ctx, "", func(i object.Info) error {
		if i.Key == canaryKey { // an attempt to make the store ended early
			return nil
		}
		return fmt.Errorf("%w %s", errFound, i.Key)
	})
	if errors.Is(err, errFound) {
		return nil, hint.New(fmt.Errorf("there is no store in %s, but something else: %s", b, err), "use a prefix or folder of its own")
	}
	if err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // which never fails
	f := format{Version: version, ID: hex.EncodeToString(id), Recipients: o.Recipients.Texts()}
	content, err := f.encode()
	if err != nil {
		return nil, err
	}
	s := &Store{ID: f.ID, bucket: b, Options: o, format: content, listed: f.Recipients}
	if err := s.putCanary(ctx); err != nil {
		return nil, err
	}
	failpoint.Reach("store begun")
	return s, b.Put(ctx, formatKey, s.format, object.PutOptions{})
}

// putCanary stores what secret keys are tried with.
func (s *Store) putCanary(ctx context.Context) error {
	content, err := seal.Canary(s.Recipients)
	if err != nil {
		return err
	}
	err = s.bucket.Put(ctx, canaryKey, content, object.PutOptions{})
	if errors.Is(err, fs.ErrExist) { // of an attempt to make the store
		err = s.bucket.Put(ctx, canaryKey, content, object.PutOptions{Replace: true})
	}
	return err
}

// Canary gives what is encrypted for all recipients, to try secret keys with.
func (s *Store) Canary(ctx context.Context) (content []byte, err error) {
	err = s.tryVersions(ctx, canaryKey, func(r object.Ref) (err error) {
		content, err = object.Read(ctx, s.bucket, r)
		return err
	})
	return content, err
}

// OtherRecipients gives the public keys for which the store was made, and which this machine does not use, and the other way round.
// The store tells it, so it may be a lie: it is worth a warning, and no more.
func (s *Store) OtherRecipients() (there, here []string) {
	lacks := func(all, in []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(text string) bool { return slices.Contains(in, text) })
	}
	mine := s.Recipients.Texts()
	return lacks(s.listed, mine), lacks(mine, s.listed)
}

func (s *Store) String() string { return s.bucket.String() }
