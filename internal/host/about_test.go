package host_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/tree"
)

func uuid(n byte) btrfs.UUID { return btrfs.UUID{n} }

// continuing gives what is known of sources, each of which continues another one.
func continuing(links map[byte]byte) (a host.About) {
	a.Sources = make(map[btrfs.UUID]host.AboutSource)
	for source, before := range links {
		a.Sources[uuid(source)] = host.AboutSource{Continues: uuid(before)}
	}
	return a
}

func TestBackupsCountAsThoseOfTheNewestSourceThatContinuesTheirs(t *testing.T) {
	for name, test := range map[string]struct {
		links map[byte]byte
		want  map[byte]byte // by source
	}{
		"one after another":   {map[byte]byte{2: 1, 3: 2}, map[byte]byte{1: 3, 2: 3, 3: 3, 4: 4}},
		"two after one":       {map[byte]byte{2: 1, 3: 1}, map[byte]byte{1: 1, 2: 2, 3: 3}},
		"a circle":            {map[byte]byte{2: 1, 1: 2}, map[byte]byte{1: 1, 2: 2, 3: 3}},
		"itself":              {map[byte]byte{1: 1}, map[byte]byte{1: 1}},
		"a circle with a way": {map[byte]byte{2: 1, 3: 2, 2 + 2: 3, 1: 4}, map[byte]byte{1: 1, 3: 3}},
		"none":                {nil, map[byte]byte{1: 1}},
	} {
		origins, want := make(host.Origins), make(host.Origins)
		for source, as := range test.want {
			origins[uuid(100+source)], want[uuid(100+source)] = uuid(source), uuid(as)
		}
		if got := continuing(test.links).Resolve(origins); !maps.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestASourceThatIsBackedUpAgainIsNobodysPast(t *testing.T) {
	a := continuing(map[byte]byte{2: 1, 3: 2})
	a.Add(uuid(100), host.Origin{Subvolume: uuid(3), Sent: 1}, nil, time.Now())
	if got := a.Newest(uuid(1), nil); got != uuid(3) {
		t.Errorf("the newest is %s", got)
	}
	a.Add(uuid(101), host.Origin{Subvolume: uuid(1), Sent: 1}, nil, time.Now())
	if got := []btrfs.UUID{a.Newest(uuid(1), nil), a.Newest(uuid(2), nil)}; got[0] != uuid(1) || got[1] != uuid(3) {
		t.Errorf("the newest are %v", got)
	}
}

func TestAClientNamesItsSourceAndRenamesNone(t *testing.T) {
	var a host.About
	add := func(source, received byte, name string, untrusted bool, sent int64) {
		of := host.Origin{Subvolume: uuid(source), Origin: tree.Origin{Source: name, Machine: name}, Sent: sent, Untrusted: untrusted}
		a.Add(uuid(received), of, nil, time.Now())
	}
	want := func(source byte, name string, received byte, sent int64) {
		t.Helper()
		if a.Name(uuid(source)) != name || a.Sources[uuid(source)].Machine != name || a.Sent(uuid(received)) != sent {
			t.Errorf("it is %q, %d bytes", a.Name(uuid(source)), a.Sent(uuid(received)))
		}
	}
	add(1, 100, "laptop:/home", true, 5)
	want(1, "laptop:/home", 100, 5)
	add(1, 100, "evil:/home", true, 6)
	want(1, "laptop:/home", 100, 5)
	add(1, 100, "renamed:/home", false, -7)
	want(1, "renamed:/home", 100, 5)
	add(2, 101, strings.Repeat("x\xff", 9000), true, 0)
	if name := a.Name(uuid(2)); len(name) > 5<<10 || !strings.HasPrefix(name, "x?x?") {
		t.Errorf("a name of %d bytes: %.9q", len(name), name)
	}
}

func TestWhatIsKnownOfBackupsThatAreGoneIsDropped(t *testing.T) {
	a := continuing(map[byte]byte{2: 1, 3: 2, 5: 4})
	a.Add(uuid(100), host.Origin{Subvolume: uuid(3), Sent: 1}, nil, time.Now())
	a.Add(uuid(101), host.Origin{Subvolume: uuid(9), Origin: tree.Origin{Source: "gone"}}, nil, time.Now())
	listing := btrfs.Listing{InDirectory: []btrfs.Subvolume{{ReceivedUUID: uuid(102)}}}
	a.Tidy(listing, host.Origins{uuid(102): uuid(1), uuid(103): uuid(4)})
	if len(a.Backups) > 0 || len(a.Sources) != 2 || a.Newest(uuid(1), nil) != uuid(3) {
		t.Errorf("left are %+v", a)
	}
	content, err := a.Marshal()
	check(t, err)
	read, err := host.ParseAbout(host.File{Content: content})
	if err != nil || read.Newest(uuid(1), nil) != uuid(3) {
		t.Errorf("read back: %+v, %v", read, err)
	}
}

func TestASourceGoesOnBehindWhatItWentOnWithBefore(t *testing.T) {
	a := continuing(map[byte]byte{2: 1, 5: 4, 6: 4})
	as := func(n byte) host.Origin { return host.Origin{Subvolume: uuid(n), Origin: tree.Origin{Source: "new"}} }
	a.Continue(host.Continuation{Source: as(3)}, uuid(1), nil) // after 2 went on with it
	a.Continue(host.Continuation{Source: as(3)}, uuid(4), nil) // with which two went on
	a.Continue(host.Continuation{Source: as(3)}, uuid(3), nil)
	a.Continue(host.Continuation{Source: as(3)}, uuid(7), nil)
	for _, older := range []byte{1, 2, 3, 4, 7} {
		if got := a.Newest(uuid(older), nil); got != uuid(3) {
			t.Errorf("%d counts as %s", older, got)
		}
	}
	if a.Newest(uuid(5), nil) != uuid(5) || a.Name(uuid(3)) != "new" {
		t.Errorf("5 counts as %s, 3 is %q", a.Newest(uuid(5), nil), a.Name(uuid(3)))
	}
	a.Continue(host.Continuation{Source: as(2)}, uuid(3), nil) // it is used again
	if got := []btrfs.UUID{a.Newest(uuid(1), nil), a.Newest(uuid(3), nil), a.Newest(uuid(7), nil)}; got[0] != uuid(2) || got[1] != uuid(2) || got[2] != uuid(2) {
		t.Errorf("they count as %v", got)
	}
}

func TestWhatASourceGoesOnWithIsOnRecord(t *testing.T) {
	eachKind(t, func(t *testing.T, h host.Host, top string) {
		newSubvolume(t, top, "home")
		snapshot(t, top+"/home", top+"/1")
		snapshot(t, top+"/home", top+"/2")
		folder := newDir(t, top, "backups")
		run(t, "sh", "-c", `for n in 1 2; do btrfs send -q "$1/$n" | btrfs receive -q "$1/backups"; done`, "sh", top)
		d, err := h.Open(t.Context(), folder)
		check(t, err)
		defer d.Close()
		content, err := d.List(t.Context())
		check(t, err)
		var received []btrfs.UUID
		for _, s := range content.InDirectory {
			received = append(received, s.ReceivedUUID)
		}
		check(t, d.Continue(t.Context(), host.Continuation{Source: host.Origin{Subvolume: uuid(1)}, Backups: received}))
		as := host.Origin{Subvolume: uuid(2), Origin: tree.Origin{Source: "laptop:/home"}}
		check(t, d.Continue(t.Context(), host.Continuation{Source: as, Older: []btrfs.UUID{uuid(1)}}))
		if err := d.Continue(t.Context(), host.Continuation{Source: as, Backups: received}); err == nil {
			t.Error("backups of another source are claimed")
		}
		if err := d.Continue(t.Context(), host.Continuation{Older: []btrfs.UUID{uuid(1)}}); err == nil {
			t.Error("nothing continues it")
		}
		content, err = d.List(t.Context())
		check(t, err)
		origins, about, err := content.Recorded(folder)
		check(t, err)
		if !maps.Equal(origins, host.Origins{received[0]: uuid(2), received[1]: uuid(2)}) || about.Name(uuid(2)) != "laptop:/home" {
			t.Errorf("on record: %v, %+v", origins, about)
		}
	})
}
