package disk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestWhatAppearsOfADiskIsItsContainerOrItsFilesystem(t *testing.T) {
	t.Parallel()
	o := Options{root: t.TempDir()}
	btrfstest.Check(t, os.Mkdir(filepath.Join(o.root, "etc"), 0o755))
	const crypttab = `# comment
one   UUID=7C1B3F2A-0000-4000-8000-000000000001  none
two   /dev/disk/by-uuid/7c1b3f2a-0000-4000-8000-000000000002  none
three UUID="7c1b3f2a-0000-4000-8000-000000000003"  none
label LABEL=x none
path  /dev/sda1 none
odd   UUID=a",RUN+="b none
`
	btrfstest.Check(t, os.WriteFile(filepath.Join(o.root, "etc/crypttab"), []byte(crypttab), 0o600))
	const filesystem = "17C8C0CF-e47a-4143-996a-f03a8a10a89e"
	for _, test := range []struct {
		d    Disk
		want string
	}{
		{Disk{UUID: filesystem}, "17c8c0cf-e47a-4143-996a-f03a8a10a89e"},
		{Disk{UUID: "ab12-34cd"}, "AB12-34CD"},
		{Disk{UUID: "01d2e3f4a5b6c7d8"}, "01D2E3F4A5B6C7D8"},
		{Disk{}, ""},
		{Disk{UUID: filesystem, LUKS: "one"}, "7c1b3f2a-0000-4000-8000-000000000001"},
		{Disk{LUKS: "two"}, "7c1b3f2a-0000-4000-8000-000000000002"},
		{Disk{LUKS: "three"}, "7c1b3f2a-0000-4000-8000-000000000003"},
		{Disk{UUID: filesystem, LUKS: "label"}, ""},
		{Disk{UUID: filesystem, LUKS: "path"}, ""},
		{Disk{UUID: filesystem, LUKS: "odd"}, ""},
		{Disk{UUID: filesystem, LUKS: "missing"}, ""},
	} {
		if got, err := test.d.plugged(o); err != nil || got != test.want {
			t.Errorf("%+v: %q, %v, want %q", test.d, got, err, test.want)
		}
	}
	if got, err := (Disk{UUID: filesystem, LUKS: "one"}).plugged(Options{root: t.TempDir()}); err != nil || got != "" {
		t.Errorf("without a crypttab: %q, %v", got, err)
	}
}
