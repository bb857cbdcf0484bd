package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
	"github.com/btrfs-backup/btrfs-backup/internal/object/objecttest"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
	"github.com/btrfs-backup/btrfs-backup/internal/store"
)

// An offsiteRig is a small source whose backups go to a store.
type offsiteRig struct {
	testing.TB
	fs     *btrfstest.FS
	source string
	place  string // of the store
	folder string // of its objects, here or behind the server

	server     *objecttest.Server // nil: the store is a folder
	access     string             // file of the credentials
	recipients string             // file
	key        string             // file of the secret key
	ids        seal.Identities
	state      string   // what this machine remembers
	keep       []string // options about retention
	past       *past
}

// smallPart lets small sources have several parts.
const smallPart = 1 << 20

// newOffsiteRig makes a rig whose store is a folder.
func newOffsiteRig(t testing.TB) *offsiteRig {
	t.Helper()
	r := newOffsiteSource(t)
	r.folder = t.TempDir()
	r.place = "store:" + r.folder
	return r
}

// newServedRig makes a rig whose store is on a server.
func newServedRig(t testing.TB) *offsiteRig {
	t.Helper()
	r := newOffsiteSource(t)
	r.server = objecttest.Start(t, objecttest.Options{})
	r.server.Bucket(t, "backups")
	r.access = objecttest.Credentials(t, objecttest.Key, objecttest.Secret)
	r.in("pc")
	return r
}

// in names the store in a folder of the bucket.
func (r *offsiteRig) in(prefix string) {
	r.place = r.server.Place("backups/" + prefix)
	r.folder = filepath.Join(r.server.Folder, "backups", prefix)
}

func newOffsiteSource(t testing.TB) *offsiteRig {
	t.Helper()
	r := &offsiteRig{TB: t, fs: btrfstest.New(t, rigSize), state: t.TempDir(), past: &past{}}
	r.source = filepath.Join(r.fs.Dir, "home")
	btrfstest.Run(t, "btrfs", "subvolume", "create", r.source)
	btrfstest.SmallFiles(t, r.source, 20, 1)
	r.makeKeys()
	return r
}

// makeKeys makes a secret key, and a file with its public one.
func (r *offsiteRig) makeKeys() {
	r.Helper()
	identity, err := age.GenerateX25519Identity()
	btrfstest.Check(r, err)
	dir := r.TempDir()
	r.ids, r.recipients, r.key = seal.Identities{identity}, filepath.Join(dir, "recipients"), filepath.Join(dir, "key")
	btrfstest.Check(r, os.WriteFile(r.recipients, []byte(identity.Recipient().String()+"\n"), 0o644))
	btrfstest.Check(r, os.WriteFile(r.key, []byte(identity.String()+"\n"), 0o600))
}

// write makes a file of n incompressible bytes in the source.
func (r *offsiteRig) write(name string, n int) {
	r.Helper()
	r.past.changes++
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(r.past.changes), byte(r.past.changes >> 8)}).Read(data)
	btrfstest.Check(r, os.WriteFile(filepath.Join(r.source, name), data, 0o644))
}

// options are those of every run.
func (r *offsiteRig) options() []string {
	o := []string{"--recipients", r.recipients, "--one-recipient", "--part-size", fmt.Sprint(smallPart)}
	if r.access != "" {
		o = append(o, "--credentials", r.access)
	}
	return append(o, r.keep...)
}

// environ is what every run has: its clock, an hour after that of the run before, and what the machine remembers.
func (r *offsiteRig) environ() []string {
	r.past.runs++
	now := time.Date(2026, 1, 1, r.past.runs, 0, 0, 0, time.UTC)
	return append(os.Environ(), testOnlyNow+"="+now.Format(time.RFC3339), "XDG_STATE_HOME="+r.state)
}

// command prepares a run.
func (r *offsiteRig) command(environ []string, options ...string) *exec.Cmd {
	cmd := exec.Command("btrfs-backup", slices.Concat(r.options(), options, []string{r.source, r.place})...)
	cmd.Env = slices.Concat(r.environ(), environ)
	return cmd
}

func (r *offsiteRig) run(environ []string, options ...string) result {
	r.Helper()
	return invokeCmd(r, r.command(environ, options...))
}

// saves makes a run that must store everything.
func (r *offsiteRig) saves(options ...string) result {
	r.Helper()
	return expect(r, exitDone, r.run(nil, options...))
}

// snapshots gives the names of those at the source, oldest first.
func (r *offsiteRig) snapshots() []string {
	r.Helper()
	all := names(r, filepath.Join(r.source, "snapshot"))
	return slices.DeleteFunc(all, func(name string) bool { return !finalName.MatchString(name) })
}

// sourceName is that of the source in stores.
func (r *offsiteRig) sourceName() string {
	host, err := os.Hostname()
	btrfstest.Check(r, err)
	return store.SourceName(host, r.source)
}

// open opens the store, with signatures of all machines.
func (r *offsiteRig) open() *store.Store {
	r.Helper()
	s, err := store.Open(r.Context(), r.bucket(), store.Options{Log: slog.New(slog.DiscardHandler)})
	btrfstest.Check(r, err)
	return s
}

func (r *offsiteRig) bucket() object.Bucket {
	r.Helper()
	if r.server != nil {
		b, err := object.OpenS3(r.Context(), r.place, object.S3Options{Credentials: object.Credentials{File: r.access}})
		btrfstest.Check(r, err)
		r.Cleanup(func() { b.Close() })
		return b
	}
	b, err := object.OpenFolder(r.folder, r.place)
	btrfstest.Check(r, err)
	r.Cleanup(func() { b.Close() })
	return b
}

func (r *offsiteRig) catalog() *store.Catalog {
	r.Helper()
	c, err := r.open().Catalog(r.Context(), r.sourceName())
	btrfstest.Check(r, err)
	return c
}

// held gives the names of the whole backups in the store, in order.
func (r *offsiteRig) held() (all []string) {
	r.Helper()
	for _, b := range r.catalog().Backups {
		if len(b.Faults) == 0 {
			all = append(all, b.Name)
		}
	}
	slices.Sort(all) // what was stored once more comes last
	return all
}

// received gives a folder into which the stock program received all whole backups that have all that they build on.
func (r *offsiteRig) received() (folder string, all []string) {
	r.Helper()
	folder = btrfstest.New(r, rigSize).Dir
	s, c := r.open(), r.catalog()
	for i := range c.Backups {
		b := &c.Backups[i]
		chain, missing := c.Chain(b)
		if !missing.IsZero() || slices.ContainsFunc(chain, func(b *store.Backup) bool { return len(b.Faults) > 0 }) {
			continue
		}
		for _, b := range chain { // what was stored once more is younger than what builds on it
			if !slices.Contains(all, b.Name) {
				btrfstest.Check(r, r.receive(s, b, folder))
				all = append(all, b.Name)
			}
		}
	}
	slices.Sort(all)
	return folder, all
}

// receive has the stock program receive a backup.
func (r *offsiteRig) receive(s *store.Store, b *store.Backup, folder string) error {
	content := s.Stream(context.Background(), &b.Manifest, r.ids)
	defer content.Close()
	whole, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	cmd := exec.Command("btrfs", "receive", "-q", folder)
	cmd.Stdin = strings.NewReader(string(whole))
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("btrfs receive: %w: %s", err, said)
	}
	return nil
}

// holdsOnly fails the test unless the store holds whole backups of these snapshots, and each equals its snapshot.
func (r *offsiteRig) holdsOnly(want []string) {
	r.Helper()
	if got := r.held(); !slices.Equal(got, want) {
		r.Fatalf("the store holds %v instead of %v", got, want)
	}
	folder, all := r.received()
	if !slices.Equal(all, want) {
		r.Fatalf("%v can be restored, and not %v", all, want)
	}
	for _, name := range all {
		isCopy(r, r.source, folder, name)
	}
}

// isSaved fails the test unless the store holds all snapshots of the source, and nothing else.
func (r *offsiteRig) isSaved() {
	r.Helper()
	r.holdsOnly(r.snapshots())
	for _, rest := range r.catalog().Rest {
		if !rest.Superseded {
			r.Errorf("%s is no backup, but %s", rest.Dir, rest.Why)
		}
	}
}

// objects gives the SHA-256 of each file of the store, by its path in it.
func (r *offsiteRig) objects() map[string]string {
	r.Helper()
	all := make(map[string]string)
	btrfstest.Check(r, filepath.WalkDir(r.folder, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		content, readErr := os.ReadFile(path)
		if err = errors.Join(err, readErr); err == nil {
			key, _ := filepath.Rel(r.folder, path)
			all[key] = fmt.Sprintf("%x", sha256.Sum256(content))
		}
		return err
	}))
	return all
}

// parts gives those of objects that are parts of streams.
func parts(all map[string]string) (keys []string) {
	for key := range all {
		if strings.HasPrefix(filepath.Base(key), "data.") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// only gives the path of the only object whose key matches a pattern.
func (r *offsiteRig) only(pattern string) string {
	r.Helper()
	found, err := filepath.Glob(filepath.Join(r.folder, pattern))
	btrfstest.Check(r, err)
	if len(found) != 1 {
		r.Fatalf("%d objects match %s: %v", len(found), pattern, found)
	}
	return found[0]
}

// flip changes a byte in the middle of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	btrfstest.Check(t, err)
	content[len(content)/2] ^= 1
	btrfstest.Check(t, os.WriteFile(path, content, 0o600))
}
