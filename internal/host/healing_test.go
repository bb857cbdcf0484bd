package host_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/heal"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
)

func TestDamageIsFoundAndHealed(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		content := make([]byte, 100_000)
		rand.Read(content)
		check(t, os.WriteFile(newSubvolume(t, top, "home")+"/file", content, 0o644))
		snapshot(t, top+"/home", top+"/s")
		folder := newDir(t, top, "backups")
		run(t, "sh", "-ec", `btrfs send -q "$1/s" | btrfs receive -q "$1/backups"`, "sh", top)
		d := open(t, h, folder)
		donor := open(t, h, top)
		for i, way := range []heal.Way{heal.PutBack, heal.Rewrite} {
			btrfstest.Damage(t, folder+"/s/file", int64(i*8192))
			var found []heal.Damage
			read := int64(0)
			sum, err := d.FindDamage(t.Context(), "s", func(d heal.Damage) { found = append(found, d) }, func(n int64) { read += n })
			check(t, err)
			if len(found) != 1 || found[0].Offset != int64(i*8192) || read != sum.Bytes || sum.Files != 1 {
				t.Fatalf("found %+v in %+v", found, sum)
			}
			asked := heal.Piece{File: "file", Offset: found[0].Offset, Length: found[0].Length}
			wrong, err := donor.ReadPiece(t.Context(), "s", heal.Piece{File: "file", Offset: 4096, Length: 4096})
			check(t, err)
			wrong.Offset = asked.Offset
			if _, err := d.PutBlockBack(t.Context(), "s", wrong); !errors.Is(err, heal.ErrWrongSource) {
				t.Errorf("a wrong block: %v", err)
			}
			piece, err := donor.ReadPiece(t.Context(), "s", asked)
			check(t, err)
			if way == heal.PutBack {
				written, err := d.PutBlockBack(t.Context(), "s", piece)
				if err != nil || fmt.Sprint(written) != fmt.Sprint(found[0].Copies) {
					t.Errorf("written %+v, %v", written, err)
				}
			} else {
				done, err := d.RewriteExtents(t.Context(), "s", []heal.Piece{piece})
				if err != nil || fmt.Sprint(done.Backups) != fmt.Sprint([]string{folder + "/s"}) {
					t.Errorf("rewritten %+v, %v", done, err)
				}
			}
			btrfstest.DropCaches(t, folder+"/s/file")
			if got, err := os.ReadFile(folder + "/s/file"); err != nil || !bytes.Equal(got, content) {
				t.Errorf("by way %s: %v", way, err)
			}
			check(t, d.CleanHealed(t.Context()))
		}
		if _, err := donor.ReadPiece(t.Context(), "s", heal.Piece{File: "../home/file", Length: 10}); err == nil {
			t.Error("a piece from outside of the snapshot was read")
		}
	})
}
