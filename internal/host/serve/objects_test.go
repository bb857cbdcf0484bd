package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/protocol"
	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

// storeOn makes a folder of stored backups.
func storeOn(t testing.TB, folder string) {
	t.Helper()
	btrfstest.Check(t, os.MkdirAll(folder, 0o700))
	f, err := object.OpenFolder(folder, folder)
	btrfstest.Check(t, err)
	defer f.Close()
	for _, key := range []string{"format", "canary", "index/s", "backups/s/n.12345678/data.0000", "backups/s/n.12345678/manifest"} {
		btrfstest.Check(t, f.Put(t.Context(), key, []byte("what is in "+key), object.PutOptions{}))
	}
}

// under describes all that is below a directory.
func under(t testing.TB, top string) map[string]string {
	t.Helper()
	seen := make(map[string]string)
	btrfstest.Check(t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			seen[path], err = looks(path)
		}
		return err
	}))
	return seen
}

// put stores an object in two pieces.
func (c *client) put(dir protocol.Dir, key string, content []byte, change func(*protocol.PutObjectCall)) error {
	sum := sha256.Sum256(content)
	call := protocol.PutObjectCall{ObjectCall: protocol.ObjectCall{Dir: dir, Key: key}, Size: int64(len(content)), SHA256: sum[:], Content: content[:len(content)/2]}
	if change != nil {
		change(&call)
	}
	var r protocol.PutObjectReply
	if err := c.call(protocol.PutObject.Name, call, &r); err != nil || r.Done {
		return err
	}
	err := c.call(protocol.WriteObject.Name, protocol.WriteObjectCall{ID: r.ID, Offset: int64(len(call.Content)), Content: content[len(call.Content):]}, nil)
	if endErr := c.call(protocol.EndObject.Name, protocol.EndObjectCall{ID: r.ID, Complete: true}, nil); err == nil {
		err = endErr
	}
	return err
}

func TestAKeyThatMayOnlyAddObjectsDestroysNone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	folder := root + "/store"
	storeOn(t, folder)
	dir := protocol.Dir{Path: folder}
	before := under(t, folder)
	c := connect(t, Options{Limits: Limits{Root: root, AppendOnly: true}})
	existing := []string{"format", "canary", "index/s", "backups/s/n.12345678/data.0000", "backups/s/n.12345678/manifest"}
	keys := append(slices.Clone(existing), "backups", "index", "backups/s", "backups/s/n.12345678", "backups/s/n.12345678/data.0000/x", "index/../format",
		"index/../../store/format", "index//format", "index/./x", "/format", "./format", "backups/../format", ".", "..", "", "index/", "x/.incoming-y")
	for _, key := range keys {
		for _, content := range []string{"", "other content", "what is at " + key, "what is in " + key} {
			for name, change := range map[string]func(*protocol.PutObjectCall){
				"plain": nil,
				"again": func(c *protocol.PutObjectCall) { c.Again = true },
				"replacing": func(c *protocol.PutObjectCall) {
					c.Replace = !strings.HasPrefix(c.Key, "index/s")
				},
				"larger": func(c *protocol.PutObjectCall) { c.Size++ },
			} {
				same := name == "again" && content == "what is in "+key && slices.Contains(existing, key)
				if err := c.put(dir, key, []byte(content), change); (err == nil) != same {
					t.Errorf("%s %q with %q: %v", name, key, content, err)
				} else if name == "replacing" && slices.Contains(existing, key) && key != "index/s" && (!errors.Is(err, fs.ErrPermission) || hintOf(err) == "") {
					t.Errorf("replacing %q: %v, %s", key, err, hintOf(err))
				}
			}
		}
	}
	if err := c.call(protocol.DeleteObjects.Name, protocol.DeleteObjectsCall{Dir: dir, Keys: existing}, nil); !errors.Is(err, fs.ErrPermission) || hintOf(err) == "" {
		t.Errorf("deleting: %v", err)
	}
	for _, at := range []string{"", "/index", "/backups", "/backups/s", "/backups/s/n.12345678"} {
		for verb, args := range thefts(protocol.Dir{Path: folder + at}, existing) {
			_ = c.ask(verb, args)
		}
	}
	if now := under(t, folder); !maps.Equal(now, before) {
		t.Errorf("it was\n%v, is\n%v", before, now)
	}
	if err := c.put(dir, "index/s", []byte("another index"), func(c *protocol.PutObjectCall) { c.Replace = true }); err != nil {
		t.Errorf("the index is not replaced: %v", err)
	}
	btrfstest.Check(t, c.put(dir, "backups/s/o.12345678/data.0000", bytes.Repeat([]byte("new"), 1000), nil))
	now := under(t, folder)
	for path, was := range before {
		if path != folder+"/index/s" && now[path] != was {
			t.Errorf("%s was\n%s, is\n%s", path, was, now[path])
		}
	}
	if len(now) != len(before)+1 {
		t.Errorf("there are %v", slices.Sorted(maps.Keys(now)))
	}
}

// thefts are the other calls that could destroy something in a folder.
func thefts(dir protocol.Dir, keys []string) map[string]any {
	names := append(slices.Clone(keys), "index", "backups", "s", "n.12345678", "data.0000", "manifest")
	return map[string]any{
		protocol.Delete.Name:         protocol.DeleteCall{Dir: dir, Names: names},
		protocol.Delete.Name + " rw": protocol.DeleteCall{Dir: dir, Names: names, Options: host.DeleteOptions{ConvertRW: true}},
		protocol.RemoveSets.Name:     protocol.RemoveSetsCall{Dir: dir, Names: names},
		protocol.DeleteTrees.Name:    protocol.DeleteTreesCall{Dir: dir, Names: names},
		protocol.Abort.Name:          protocol.AbortCall{Dir: dir, Name: "backups"},
		protocol.Link.Name:           protocol.LinkCall{Dir: dir, Name: "manifest", Target: "data.0000"},
		protocol.Rmdir.Name:          protocol.RmdirCall{Dir: dir, Remove: dir.Path},
		protocol.MakeSet.Name:        protocol.MakeSetCall{Dir: dir, Name: "backups", Members: []string{"s"}},
		protocol.Receive.Name:        protocol.ReceiveCall{Dir: dir, Order: host.ReceiveOrder{Name: "backups"}},
	}
}

func TestAKeyThatMayOnlySendReadsNoBackupsOfAStore(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	storeOn(t, root)
	c := connect(t, Options{Limits: Limits{Root: root, ReceiveOnly: true}})
	for key, may := range map[string]bool{"format": true, "canary": true, "index/s": true, "backups/s/n.12345678/manifest": true, "backups/s/n.12345678/data.0000": false} {
		var r protocol.ReadObjectReply
		err := c.call(protocol.ReadObject.Name, protocol.ReadObjectCall{ObjectCall: protocol.ObjectCall{Dir: protocol.Dir{Path: root}, Key: key}, Length: 100}, &r)
		if may && (err != nil || string(r.Content) != "what is in "+key) || !may && (!errors.Is(err, fs.ErrPermission) || hintOf(err) == "" || r.Content != nil) {
			t.Errorf("%s: %q, %v", key, r.Content, err)
		}
		var i object.Info
		btrfstest.Check(t, c.call(protocol.StatObject.Name, protocol.ObjectCall{Dir: protocol.Dir{Path: root}, Key: key}, &i))
	}
	var l protocol.ListObjectsReply
	btrfstest.Check(t, c.call(protocol.ListObjects.Name, protocol.ListObjectsCall{Dir: protocol.Dir{Path: root}}, &l))
	if len(l.Objects) != 5 || l.More {
		t.Errorf("listed are %+v", l)
	}
	fetching := connect(t, Options{Limits: Limits{Root: root, SendOnly: true}})
	if err := fetching.put(protocol.Dir{Path: root}, "new", []byte("x"), nil); err == nil || !strings.Contains(err.Error(), "may only fetch") {
		t.Errorf("a key that may only fetch stores: %v", err)
	}
}

func TestAKeyWithLimitsTakesNoOtherFolderForAStore(t *testing.T) {
	s := newClientScene(t)
	btrfstest.Check(t, os.MkdirAll(s.root+"/files/sub", 0o700))
	btrfstest.Check(t, os.WriteFile(s.root+"/files/sub/file", []byte("private"), 0o600))
	btrfstest.Check(t, os.Mkdir(s.root+"/dir", 0o700))
	btrfstest.Check(t, os.Mkdir(s.root+"/dir/format", 0o700))
	before := under(t, s.root+"/files")
	for _, limits := range []Limits{{Root: s.root}, s.limits().Limits, {Root: s.root, ReceiveOnly: true}, {ReceiveOnly: true}} {
		c := connect(t, Options{Limits: limits})
		for folder, key := range map[string]string{s.root: "files/sub/file", s.root + "/files": "sub/file", s.folder: mine + "/file", s.root + "/dir": "format/x"} {
			at := protocol.ObjectCall{Dir: protocol.Dir{Path: folder}, Key: key}
			for verb, args := range map[string]any{
				protocol.ListObjects.Name:   protocol.ListObjectsCall{Dir: at.Dir},
				protocol.StatObject.Name:    at,
				protocol.ReadObject.Name:    protocol.ReadObjectCall{ObjectCall: at, Length: 10},
				protocol.DeleteObjects.Name: protocol.DeleteObjectsCall{Dir: at.Dir, Keys: []string{key}},
			} {
				if err := c.call(verb, args, nil); err == nil {
					t.Errorf("%+v: %s of %s in %s is allowed", limits, verb, key, folder)
				}
			}
			for _, key := range []string{key, "format", "new", "index/x"} {
				if err := c.put(at.Dir, key, []byte("x"), func(c *protocol.PutObjectCall) { c.Replace = key == "index/x" }); err == nil {
					t.Errorf("%+v: %s is stored in %s", limits, key, folder)
				}
			}
		}
		c.end()
	}
	if now := under(t, s.root+"/files"); !maps.Equal(now, before) {
		t.Errorf("it was\n%v, is\n%v", before, now)
	}
	c := connect(t, s.limits())
	btrfstest.Check(t, c.call(protocol.Mkdir.Name, s.root+"/new/store", nil))
	store := protocol.Dir{Path: s.root + "/new/store"}
	for _, key := range []string{"new", "backups/s/n/manifest", "index/s"} {
		if err := c.put(store, key, []byte("x"), nil); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("an empty folder takes %s first: %v", key, err)
		}
	}
	replace := func(c *protocol.PutObjectCall) { c.Replace = true }
	btrfstest.Check(t, c.put(store, "canary", []byte("of an attempt"), nil))
	btrfstest.Check(t, c.put(store, "canary", []byte("of the next"), replace))
	for _, key := range []string{"format", "backups/s/n/manifest"} {
		btrfstest.Check(t, c.put(store, key, []byte("what is in "+key), nil))
	}
	if err := c.put(store, "canary", []byte("x"), replace); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("what the store was made with is replaced: %v", err)
	}
}

func TestNoObjectIsStoredWhereOtherUsersCanWrite(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	storeOn(t, root+"/store")
	c := connect(t, Options{Limits: Limits{Root: root}})
	for _, dir := range []string{root, root + "/store"} {
		btrfstest.Check(t, os.Chmod(dir, 0o777))
		if err := c.put(protocol.Dir{Path: root + "/store"}, "new", []byte("x"), nil); err == nil || !strings.Contains(err.Error(), "other users can write to "+dir) {
			t.Errorf("%s: %v", dir, err)
		}
		btrfstest.Check(t, os.Chmod(dir, 0o700))
	}
}

func TestUploadsOfAClientAreBounded(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	storeOn(t, root)
	o := Options{Limits: Limits{Root: root, AppendOnly: true}}
	c, other := connect(t, o), connect(t, o)
	before := under(t, root)
	begin := func(i int, size int64) (r protocol.PutObjectReply, err error) {
		key := protocol.ObjectCall{Dir: protocol.Dir{Path: root}, Key: fmt.Sprintf("backups/s/x/data.%04d", i)}
		return r, c.call(protocol.PutObject.Name, protocol.PutObjectCall{ObjectCall: key, Size: size, SHA256: make([]byte, 32)}, &r)
	}
	first, err := begin(0, 100)
	btrfstest.Check(t, err)
	for i := range mostUploads - 1 {
		_, err := begin(i+1, 1<<60)
		btrfstest.Check(t, err)
	}
	if _, err := begin(mostUploads, 100); err == nil || !strings.Contains(err.Error(), "are being stored already") {
		t.Errorf("one more: %v", err)
	}
	if _, err := begin(mostUploads, -1); err == nil {
		t.Error("an object of less than nothing is begun")
	}
	for _, offset := range []int64{-1, 91, 1 << 62, -1 << 63} {
		if err := c.call(protocol.WriteObject.Name, protocol.WriteObjectCall{ID: first.ID, Offset: offset, Content: make([]byte, 10)}, nil); !errors.Is(err, object.ErrBadContent) {
			t.Errorf("at %d: %v", offset, err)
		}
	}
	for _, verb := range []string{protocol.WriteObject.Name, protocol.EndObject.Name} {
		if err := other.call(verb, protocol.EndObjectCall{ID: first.ID, Complete: true}, nil); err == nil {
			t.Errorf("%s of another client's object", verb)
		}
	}
	btrfstest.Check(t, c.call(protocol.WriteObject.Name, protocol.WriteObjectCall{ID: first.ID, Offset: 90, Content: make([]byte, 10)}, nil))
	if err := c.call(protocol.EndObject.Name, protocol.EndObjectCall{ID: first.ID, Complete: true}, nil); !errors.Is(err, object.ErrBadContent) {
		t.Errorf("an object with another sum: %v", err)
	}
	c.end()
	if now := under(t, root); !maps.Equal(now, before) {
		t.Errorf("it was\n%v, is\n%v", before, now)
	}
}

func TestAnUploadWhoseCallIsGivenUpIsNotKept(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	storeOn(t, root)
	before := under(t, root)
	s := newServer(t.Context(), Options{}, nil)
	d := open(t, newHost(), root)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	call := protocol.PutObjectCall{ObjectCall: protocol.ObjectCall{Key: "new"}, Size: 10, Content: []byte("12345")}
	if _, err := s.putObject(ctx, d, call); !errors.Is(err, context.Canceled) || len(s.uploads) != 0 {
		t.Errorf("%d are kept: %v", len(s.uploads), err)
	}
	if now := under(t, root); !maps.Equal(now, before) {
		t.Errorf("it was\n%v, is\n%v", before, now)
	}
}
