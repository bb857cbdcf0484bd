package tree

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"

	"golang.org/x/sys/unix"
)

func TestACopyTellsWhatItLostOfItsOriginal(t *testing.T) {
	t.Parallel()
	onEachKind(t, func(t *testing.T, r *rig) {
		files := []string{"acl", "attribute", "capable", "complained", "gone", "group", "kept", "later", "mode", "owner", "time"}
		for _, file := range files {
			r.write(file, "content")
		}
		check(t, os.Mkdir(r.source+"/sticky", 0o700))
		check(t, os.Symlink("kept", r.source+"/link"))
		btrfstest.Run(t, "setfacl", "-m", "u:1000:r", r.source+"/acl")
		check(t, unix.Setxattr(r.source+"/attribute", "user.a", []byte("b"), 0))
		btrfstest.Run(t, "setcap", "cap_net_raw+ep", r.source+"/capable")
		began := CopyingBegins()
		w := r.copy("1", "")
		in := func(path string) string { return w.Path + "/" + path }
		check(t, unix.Removexattr(in("acl"), "system.posix_acl_access"))
		check(t, os.Chmod(in("acl"), 0o644))
		check(t, os.Chmod(r.source+"/acl", 0o644)) // with an ACL this is its mask
		check(t, unix.Setxattr(in("attribute"), "user.a", []byte("c"), 0))
		check(t, unix.Removexattr(in("capable"), "security.capability"))
		check(t, os.Chmod(in("complained"), 0o600))
		check(t, os.Remove(r.source+"/gone"))
		check(t, os.Lchown(in("group"), -1, 5))
		check(t, os.Lchown(in("link"), 5, -1))
		check(t, os.Chmod(r.source+"/later", 0o600))
		check(t, os.Chmod(in("mode"), 0o600))
		check(t, os.Lchown(in("owner"), 5, -1))
		check(t, os.Chmod(in("sticky"), os.ModeSticky|0o700))
		check(t, os.Chtimes(in("time"), time.Time{}, time.Unix(1e9, 1)))

		of1 := result("1", "")
		of1.Incomplete, of1.Missing = []string{`rsync: [receiver] failed to set permissions on "/x/complained": Operation not supported (95)`}, 1
		of1.Original = Original{Path: r.source, Began: began.Add(time.Hour)} // all of it is older
		record, err := r.folder.Finish(t.Context(), of1, nil)
		check(t, err)
		const lost = ": the destination did not keep its "
		want := []string{of1.Incomplete[0], "acl" + lost + "ACL", "attribute" + lost + "user.a", "capable" + lost + "capabilities",
			"group" + lost + "owner", "later" + lost + "mode", "link" + lost + "owner", "mode" + lost + "mode", "owner" + lost + "owner",
			"sticky" + lost + "mode", "time" + lost + "time"}
		got := slices.DeleteFunc(record.Incomplete, func(m string) bool { return strings.HasPrefix(m, ".:") }) // which lost a file
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}

		r.copy("2", "")
		check(t, os.Chmod(r.path(".2.incoming/mode"), 0o600))
		of2 := result("2", "")
		of2.Original = Original{Path: r.source, Began: began.Add(-time.Hour)} // all of it changed since
		record, err = r.folder.Finish(t.Context(), of2, nil)
		check(t, err)
		if !record.Complete() {
			t.Errorf("what changed meanwhile is called lost: %q", record.Incomplete)
		}
	})
}

func TestTheNextBackupKnowsTheStickyDirectoriesOfItsBase(t *testing.T) {
	t.Parallel()
	r := newRig(t, "ext4")
	for name, mode := range map[string]os.FileMode{"a\xff": os.ModeSticky | 0o777, "plain": 0o755, "sticky": os.ModeSticky | 0o777} {
		check(t, os.Mkdir(r.source+"/"+name, 0o755))
		check(t, os.Chmod(r.source+"/"+name, mode))
		if name != "sticky" {
			btrfstest.Run(t, "setfacl", "-m", "u:1000:rwx", r.source+"/"+name)
		}
	}
	r.backup("1", "")
	w := mustBegin(t, r.folder, Order{Name: "2", Base: "1", Origin: Origin{Source: "source"}})
	if len(w.Sticky) != 1 || string(w.Sticky[0]) != "a\xff" {
		t.Errorf("they are %q", w.Sticky)
	}
}
