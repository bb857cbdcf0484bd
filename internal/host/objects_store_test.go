package host_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream/streamtest"
	"github.com/btrfs-backup/btrfs-backup/internal/host/agent"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// streamOf makes the stream of a subvolume with a large file.
func streamOf(uuid btrfs.UUID) []byte {
	commands := [][]byte{streamtest.Encode(sendstream.CmdSubvol, streamtest.Text(sendstream.AttrPath, "x"), streamtest.UUID(sendstream.AttrUUID, uuid),
		streamtest.Number(sendstream.AttrCtransid, 7)), streamtest.Makes(sendstream.CmdMkfile, "file")}
	for i := range 2000 {
		commands = append(commands, streamtest.Write("file", string(noise(4096 + i)[:4096])))
	}
	return streamtest.Stream(1, commands...)
}

func TestAStoreIsKeptWithAKeyThatMayOnlyAdd(t *testing.T) {
	root := t.TempDir()
	check(t, os.Chmod(root, 0o700))
	identity, err := age.GenerateX25519Identity()
	check(t, err)
	recipients, err := seal.ParseRecipients(strings.NewReader(identity.Recipient().String()))
	check(t, err)
	signer, err := seal.LoadSigner(filepath.Join(t.TempDir(), "signing.key"))
	check(t, err)
	o := store.Options{Log: silent, Recipients: recipients, Signer: signer, State: t.TempDir(), PartSize: 1 << 20,
		Trusts: func(key string) bool { return key == signer.PublicKey() }}
	folder := root + "/laptop"
	connect := func(limit string) *agent.Host {
		t.Setenv(testOnlyLimit, limit)
		return newAgent(t)
	}
	limited := connect(root)
	check(t, limited.MkdirAll(t.Context(), folder))
	b := openBucket(t, limited, folder)
	s, err := store.Create(t.Context(), b, o)
	check(t, err)
	var content []byte
	for i, name := range []string{"20260102-000000", "20260101-000000"} { // the second one finds the index
		content = streamOf(btrfs.UUID{byte(i + 1)})
		u, err := s.Begin(t.Context(), store.Order{Source: "host_home", Name: name, Key: name})
		check(t, err)
		_, err = u.Write(content)
		check(t, err)
		_, err = u.Close()
		check(t, err)
		_, err = u.Commit(t.Context(), btrfs.UUID{9}, time.Now(), store.Private{Host: "host", Path: "/home"})
		check(t, err)
	}
	found, err := s.Catalog(t.Context(), "host_home")
	check(t, err)
	if len(found.Backups) != 2 || len(found.Rest) != 0 {
		t.Fatalf("%d backups, %d others", len(found.Backups), len(found.Rest))
	}
	if _, err := s.Delete(t.Context(), "host_home", []*store.Backup{&found.Backups[0]}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a backup is deleted: %v", err)
	}
	whole, err := store.Open(t.Context(), openBucket(t, connect(""), folder), o)
	check(t, err)
	var got bytes.Buffer
	last := found.Backups[slices.IndexFunc(found.Backups, func(b store.Backup) bool { return b.UUID == btrfs.UUID{2} })]
	r := whole.Stream(t.Context(), &last.Manifest, seal.Identities{identity})
	_, err = got.ReadFrom(r)
	check(t, errors.Join(err, r.Close()))
	if !bytes.Equal(got.Bytes(), content) {
		t.Error("another stream came back")
	}
}
