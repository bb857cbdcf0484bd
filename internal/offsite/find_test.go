package offsite

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// inFolder is a place in a folder of this machine.
type inFolder string

func (f inFolder) String() string { return "store:" + string(f) }

func (f inFolder) Open(context.Context, func(int64)) (object.Bucket, io.Closer, error) {
	b, err := object.OpenFolder(string(f), f.String())
	return b, b, err
}

func (f inFolder) Create(context.Context) error { return os.MkdirAll(string(f), 0o700) }

func (f inFolder) Above() (Place, string) {
	if f == "/" {
		return nil, ""
	}
	return inFolder(path.Dir(string(f))), path.Base(string(f))
}

var noLog = slog.New(slog.DiscardHandler)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// options give a store that a machine may fill.
func options(t testing.TB) (store.Options, seal.Identities) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	recipients, err := seal.ParseRecipients(strings.NewReader(identity.Recipient().String()))
	must(t, err)
	signer, err := seal.LoadSigner(filepath.Join(t.TempDir(), "signing.key"))
	must(t, err)
	return store.Options{Log: noLog, Recipients: recipients, Signer: signer, State: t.TempDir(), PartSize: 64 << 10,
		Trusts: func(key string) bool { return key == signer.PublicKey() }}, seal.Identities{identity}
}

func TestAStoreIsFoundByWhatIsInIt(t *testing.T) {
	ctx := t.Context()
	o, _ := options(t)
	in := inFolder(t.TempDir())
	b, closer, err := in.Open(ctx, nil)
	must(t, err)
	defer closer.Close()
	made, err := store.Create(ctx, b, o)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(string(in), "backups", "host_home"), 0o700)) // a folder, whose name is none in the store
	for below, want := range map[string][2]string{"": {}, "/host_home": {"host_home"}, "/host_home/20260101-000000": {"host_home", "20260101-000000"}} {
		found, err := Find(ctx, in+inFolder(below), o)
		must(t, err)
		if found.Store.ID != made.ID || found.Source != want[0] || found.Name != want[1] {
			t.Errorf("%q: %q %q in %s", below, found.Source, found.Name, found.Store.ID)
		}
		if found.String() != in.String()+below {
			t.Errorf("%q is named %s", below, found)
		}
		must(t, found.Close())
	}
	for _, other := range []inFolder{in + "/a/b/c", inFolder(t.TempDir())} {
		if _, err := Find(ctx, other, o); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", other, err)
		}
	}
}

func TestPrefixesOfAServerLieInEachOther(t *testing.T) {
	var at Place = Server{Name: "s3://localhost:9/bucket/some/prefix"}
	var names []string
	for at != nil {
		var name string
		names = append(names, at.String())
		at, name = at.Above()
		names = append(names, name)
	}
	if got := strings.Join(names, " "); got != "s3://localhost:9/bucket/some/prefix prefix s3://localhost:9/bucket/some some s3://localhost:9/bucket " {
		t.Error(got)
	}
}
