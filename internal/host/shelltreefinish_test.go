package host_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/btrfs/btrfstest"
	"btrfs-backup/internal/host"
	"btrfs-backup/internal/tree"
)

func TestABadSourceIsRefusedWhateverItsNames(t *testing.T) {
	eachShellFolder(t, func(t *testing.T, _ host.Trees, d host.TreeDir, folder string) {
		var files []string
		for i := range 120 {
			files = append(files, fmt.Sprintf("-line\n break %d\xff", i), fmt.Sprintf("%d", i))
		}
		addTree(t, d, "b1", "", files...)
		before := facts(t, folder+"/b1")
		for gone, refused := range map[int]bool{99: false, 100: true, 150: true} {
			name := fmt.Sprint("without", gone)
			w := beginTree(t, d, name, "b1")
			for i, file := range files {
				check(t, os.RemoveAll(filepath.Join(w.Path, file)))
				if i >= gone {
					check(t, os.WriteFile(filepath.Join(w.Path, file), nil, 0o644))
				}
			}
			r := result(name, "b1")
			r.MaxDelete = 40
			var many *tree.TooManyGoneError
			if _, err := d.FinishTree(t.Context(), r, nil); errors.As(err, &many) != refused || !refused && err != nil {
				t.Errorf("%d gone: %v", gone, err)
			}
			if !refused {
				continue
			}
			if many.Gone != int64(gone) || many.Had != int64(len(files)) || many.Base != "b1" || exists(w.Path) || exists(folder+"/"+name) {
				t.Errorf("refused is %+v", many)
			}
		}
		unchanged(t, before, folder+"/b1")
		if l := listTrees(t, d); len(l.Leftovers) > 0 {
			t.Errorf("left are %q", l.Leftovers)
		}
	})
}

// A backup must not be made, nor a list be shorter, because a command failed.
func TestNoBackupIsMadeWhereACommandFails(t *testing.T) {
	btrfstest.RequireRoot(t)
	for _, fsType := range []string{"btrfs", "ext4"} {
		top := btrfstest.New
		if fsType == "ext4" {
			top = func(t testing.TB, size int64, o ...string) *btrfstest.FS {
				return btrfstest.NewOther(t, "ext4", size, o...)
			}
		}
		folder := filepath.Join(top(t, testSize).Dir, "folder")
		local := openTrees(t, host.NewLocal(silent), folder)
		addTree(t, local, "b1", "", numbered(150)...)
		beginTree(t, local, "b2", "b1")
		for _, failing := range []string{"sort:", "uniq:", "sed:", "awk:", "tr:", "find:! -type d -print0", "find:-prune -print0",
			"find:-prune -type d", "sync:", "mv:", "tee:", "wc:", "stat:"} {
			name, arguments, _ := strings.Cut(failing, ":")
			if name == "sync" && fsType == "btrfs" {
				continue // it is not used
			}
			bin := t.TempDir()
			script(t, bin, name, fmt.Sprintf(`case "$*" in *"%s"*) echo 'failed: Input/output error' >&2; exit 1 ;; esac
exec /usr/bin/%s "$@"`, arguments, name))
			h := shellWith(t, bin, host.ShellOptions{})
			d, err := h.OpenTrees(t.Context(), folder, tree.OpenOptions{})
			if err == nil {
				r := result("b2", "b1")
				r.MaxDelete = 100
				_, err = d.FinishTree(t.Context(), r, nil)
				check(t, d.Close())
			}
			if err == nil || exists(folder+"/b2") {
				t.Errorf("%s failed on %s: %v", failing, fsType, err)
				beginTree(t, local, "b2", "b1")
			}
		}
	}
}

func TestAShellGoesOnWithDeletions(t *testing.T) {
	eachShellFolder(t, func(t *testing.T, _ host.Trees, d host.TreeDir, folder string) {
		for _, name := range []string{"b1", "b2"} {
			fill(t, beginTree(t, d, name, "").Path)
			finishTree(t, d, name, "")
		}
		check(t, os.Rename(folder+"/b1", folder+"/.b1.deleting"))
		note := func(hidden ...string) {
			list := make(map[string]struct{})
			for _, name := range hidden {
				list[name] = struct{}{}
			}
			content, err := json.Marshal(list)
			check(t, err)
			check(t, os.WriteFile(folder+"/.btrfs-backup/unfinished.json", content, 0o600))
		}
		newDir(t, folder, "manifests-of-others")
		check(t, os.WriteFile(filepath.Dir(folder)+"/x.json", nil, 0o600))
		note(".b1.deleting", ".b2.deleting", ".gone.incoming", "./../../../x.deleting", "../x.incoming", ".b1.incoming")
		if l := listTrees(t, d); !slices.Equal(l.Leftovers, []string{".b1.deleting"}) || !slices.Equal(backups(l), []string{"b2"}) {
			t.Errorf("the listing is %+v", l)
		}
		before := facts(t, folder+"/b2")
		beginTree(t, d, "b3", "b2")
		unchanged(t, before, folder+"/b2")
		if l := listTrees(t, d); !slices.Equal(backups(l), []string{"b2"}) || !slices.Equal(l.Leftovers, []string{".b3.incoming"}) {
			t.Errorf("the listing is %+v", l)
		}
		wantNames(t, folder+"/.btrfs-backup/manifests", "b2.json")
		if !exists(filepath.Dir(folder) + "/x.json") {
			t.Error("a file outside is gone")
		}
	})
}

func TestADeletionStaysOutOfWhatIsMounted(t *testing.T) {
	btrfstest.RequireRoot(t)
	top := btrfstest.NewOther(t, "ext4", testSize)
	for _, sh := range []string{"dash", "busybox"} {
		folder := filepath.Join(top.Dir, sh)
		d := openTrees(t, newShell(t, sh, false), folder)
		fill(t, beginTree(t, d, "b1", "").Path)
		finishTree(t, d, "b1", "")
		disk := btrfstest.New(t, testSize)
		disk.Mount(t, folder+"/b1/a/mounted")
		check(t, os.WriteFile(disk.Dir+"/precious", nil, 0o644))
		if deleted, err := d.DeleteTrees(t.Context(), []string{"b1"}); err == nil || len(deleted) > 0 || !exists(disk.Dir+"/precious") {
			t.Errorf("deleted %q, %v", deleted, err)
		}
		run(t, "umount", folder+"/.b1.deleting/a/mounted")
		beginTree(t, d, "b2", "")
		if exists(folder + "/.b1.deleting") {
			t.Error("the deletion is not gone on with")
		}
		check(t, os.MkdirAll(folder+"/b1/a/mounted", 0o755)) // is unmounted in the end
		run(t, "mount", disk.Device, folder+"/b1/a/mounted")
	}
}

func TestAShellComparesContentsAfterAPowerFailure(t *testing.T) {
	eachShellFolder(t, func(t *testing.T, _ host.Trees, d host.TreeDir, folder string) {
		list := folder + "/.btrfs-backup/unfinished.json"
		restart := func(hidden string) {
			content, err := os.ReadFile(list)
			check(t, err)
			var entries map[string]map[string]any
			check(t, json.Unmarshal(content, &entries))
			entries[hidden]["boot"] = "another"
			content, err = json.Marshal(entries)
			check(t, err)
			check(t, os.WriteFile(list, content, 0o600))
		}
		steps := []struct {
			keep, restart, checksum bool
		}{{false, false, false}, {false, true, true}, {true, false, true}, {true, true, true}}
		beginTree(t, d, "b1", "")
		for i, step := range steps {
			if step.keep {
				check(t, d.KeepTree(t.Context(), "b1"))
			}
			if step.restart {
				restart(".b1.incoming")
			}
			if w := beginTree(t, d, "b1", ""); !w.Resumed || w.Checksum != step.checksum {
				t.Errorf("step %d: %+v", i, w)
			}
		}
		fill(t, beginTree(t, d, "b1", "").Path)
		finishTree(t, d, "b1", "")
		beginTree(t, d, "b1x", "b1")
		check(t, d.KeepTree(t.Context(), "b1x"))
		restart(".b1x.incoming")
		if w := beginTree(t, d, "b1x", "b1"); !w.Resumed || w.Checksum {
			t.Errorf("what was synced is doubted: %+v", w)
		}
		restart(".b1x.incoming")
		if w := beginTree(t, d, "b1x", "b1"); !w.Resumed || !w.Checksum {
			t.Errorf("what was changed since it was synced is not doubted: %+v", w)
		}
	})
}
