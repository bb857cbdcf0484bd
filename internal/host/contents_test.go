package host_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

func TestWhatABackupHoldsIsVerifiedAndDescribed(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		home, folder := newSubvolume(t, top, "home"), newDir(t, top, "folder")
		check(t, os.WriteFile(home+"/file", bytes.Repeat([]byte("content "), 100_000), 0o644))
		for _, name := range oddNames {
			check(t, os.WriteFile(home+"/"+name, nil, 0o644))
		}
		snapshot(t, home, top+"/20260101-000000")
		run(t, "sh", "-c", `btrfs send -q "$1/20260101-000000" | btrfs receive -q "$1/folder"`, "sh", top)
		d := open(t, h, folder)
		verify := func(name string) (v tree.Verified, kinds []string) {
			v, err := d.VerifyTree(t.Context(), name, tree.VerifyOptions{}, func(d tree.Difference) { kinds = append(kinds, string(d.Kind)) }, unwatched)
			check(t, err)
			return v, kinds
		}
		check(t, d.MakeManifest(t.Context(), "20260101-000000"))
		v, kinds := verify("20260101-000000")
		if len(kinds) > 0 || v.Bytes != 800_000 || v.Basis != tree.ByManifest {
			t.Errorf("%+v, %q", v, kinds)
		}
		btrfstest.Damage(t, folder+"/20260101-000000/file", 4096)
		if v, kinds := verify("20260101-000000"); !slices.Equal(kinds, []string{"damaged"}) || v.Basis != tree.ByManifest {
			t.Errorf("%+v, %q", v, kinds)
		}
		var manifests [2]bytes.Buffer
		for i, dir := range []string{top + "/20260101-000000", folder + "/20260101-000000"} {
			var damaged []tree.Difference
			v, err := open(t, h, dir).DescribeTree(t.Context(), &manifests[i], func(d tree.Difference) { damaged = append(damaged, d) }, unwatched)
			check(t, err)
			if v.Files != int64(len(oddNames))+1 || len(damaged) != i {
				t.Errorf("%s: %+v, %+v", dir, v, damaged)
			}
		}
		unread := func(path string) bool { return path == "file" }
		_, _, err := tree.CompareManifests(t.Context(), bytes.NewReader(manifests[0].Bytes()), bytes.NewReader(manifests[1].Bytes()),
			tree.ManifestOptions{Unread: unread}, func(d tree.Difference) { t.Errorf("%+v", d) })
		check(t, err)
		_, err = d.Delete(t.Context(), []string{"20260101-000000"}, host.DeleteOptions{})
		check(t, err)
		wantNames(t, folder+"/.btrfs-backup/manifests")
	})
}
