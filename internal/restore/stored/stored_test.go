package stored

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/offsite"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// archive is a bucket whose parts must be called back before they are read.
type archive struct {
	object.Bucket
	ready  time.Time
	mu     sync.Mutex
	asked  map[string]bool // what was called back
	listed bool            // a listing tells of it
	thawed bool
}

func isPart(key string) bool { return strings.HasPrefix(filepath.Base(key), "data.") }

func (a *archive) List(ctx context.Context, prefix string, visit func(object.Info) error) error {
	return a.Bucket.List(ctx, prefix, func(i object.Info) error {
		i.Archived = a.listed && !a.thawed && isPart(i.Key)
		return visit(i)
	})
}

func (a *archive) Get(ctx context.Context, r object.Ref, offset, length int64) (io.ReadCloser, error) {
	if isPart(r.Key) && !a.thawed {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked[r.Key] = true
		return nil, &object.ArchivedError{Key: r.Key, Ready: a.ready}
	}
	return a.Bucket.Get(ctx, r, offset, length)
}

type place struct {
	offsite.Place
	bucket object.Bucket
}

func (p place) String() string { return "store:/test" }
func (p place) Open(context.Context, func(int64)) (object.Bucket, io.Closer, error) {
	return p.bucket, io.NopCloser(nil), nil
}

// newArchive makes a store with a backup that builds on another, of a few parts each.
func newArchive(t *testing.T) (*archive, From) {
	t.Helper()
	folder, err := object.OpenFolder(t.TempDir(), "store:/test")
	must(t, err)
	t.Cleanup(func() { folder.Close() })
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	recipients, err := seal.ParseRecipients(strings.NewReader(identity.Recipient().String()))
	must(t, err)
	state := t.TempDir()
	signer, err := seal.LoadSigner(filepath.Join(state, "signing.key"))
	must(t, err)
	s, err := store.Create(t.Context(), folder, store.Options{Log: slog.New(slog.DiscardHandler), Recipients: recipients, Signer: signer,
		State: state, PartSize: 64 << 10})
	must(t, err)
	for n, name := range []string{"20260101-000000", "20260102-000000"} {
		u, err := s.Begin(t.Context(), store.Order{Source: "pc_home", Name: name, Key: name})
		must(t, err)
		_, err = u.Write(stream(byte(n+1), byte(n)))
		must(t, err)
		_, err = u.Close()
		must(t, err)
		_, err = u.Commit(t.Context(), btrfs.UUID{9}, time.Now().Add(time.Duration(n)*time.Hour), store.Private{Host: "pc", Path: "/home"})
		must(t, err)
	}
	a := &archive{Bucket: folder, ready: time.Now().Add(5 * time.Hour), asked: make(map[string]bool)}
	found, err := offsite.Find(t.Context(), place{bucket: a}, store.Options{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	known, err := seal.ReadSigners(filepath.Join(state, "signers"), signer)
	must(t, err)
	return a, From{Found: found, Trust: &offsite.Trust{Known: known}, Tell: func(string) {},
		Identities: func(context.Context) (seal.Identities, error) { return seal.Identities{identity}, nil }}
}

func stream(uuid, parent byte) []byte {
	head := streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "x"),
		streamtest.UUID(sendstream.AttrUUID, btrfs.UUID{uuid}), streamtest.Number(sendstream.AttrCtransid, 7))
	if parent > 0 {
		head = streamtest.Encode(sendstream.CmdSnapshot, streamtest.Text(sendstream.AttrPath, "x"),
			streamtest.UUID(sendstream.AttrUUID, btrfs.UUID{uuid}), streamtest.Number(sendstream.AttrCtransid, 7),
			streamtest.UUID(sendstream.AttrCloneUUID, btrfs.UUID{parent}), streamtest.Number(sendstream.AttrCloneCtransid, 7))
	}
	commands := [][]byte{head, streamtest.Makes(sendstream.CmdMkfile, "file"+string('0'+uuid))}
	for range 50 {
		commands = append(commands, streamtest.Write("file"+string('0'+uuid), string(bytes.Repeat([]byte{uuid}, 4096))))
	}
	return streamtest.Stream(1, commands...)
}

func TestAllThatIsInAnArchiveIsCalledBackAtOnce(t *testing.T) {
	for _, listed := range []bool{true, false} { // or only found when it is read
		a, from := newArchive(t)
		a.listed = listed
		s, err := open(t.Context(), from)
		must(t, err)
		if len(s.chain) != 2 {
			t.Fatalf("%d", len(s.chain))
		}
		var f Fetched
		if err = s.plan(t.Context(), s.chain, true, &f); err != nil || len(a.asked) > 0 {
			t.Errorf("a rehearsal asked for %v, %v", a.asked, err)
		}
		if err = s.plan(t.Context(), s.chain, false, &f); !listed {
			must(t, err)
			_, err = io.ReadAll(s.Found.Store.Stream(t.Context(), &s.chain[0].Manifest, nil))
			err = s.explain(t.Context(), err)
		}
		var later *LaterError
		if !errors.As(err, &later) || later.Objects != f.Objects || !later.Ready.Equal(a.ready) || len(a.asked) != f.Objects || f.Objects < 6 {
			t.Errorf("listed %t: %v; %d of %d asked for", listed, err, len(a.asked), f.Objects)
		}
		if !strings.Contains(err.Error(), a.ready.Local().Format("2006-01-02 15:04")) || hint.Of(err) == "" {
			t.Errorf("%v", err)
		}
		a.thawed = true
		must(t, s.plan(t.Context(), s.chain, false, &f))
	}
}
